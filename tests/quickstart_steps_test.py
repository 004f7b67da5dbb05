"""The quickstart's runner (order, what is kept, what a failure says), its reading of bars, its arguments."""

import io
import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import List

import pytest

from quickstart.__main__ import BadArguments, check_folder, find_data, parse_arguments, read_settings
from quickstart.plan import MODELS, SETTINGS, archive, plan
from quickstart.progress import Display, Progress
from quickstart.report import read_sentences, write_examples
from quickstart.steps import Runner, Step, StepFailed


def _step(
    folder: Path, name: str, program: str, needs: List[str] = (), inputs: List[Path] = (), **kwargs
) -> Step:
    output = folder / f"{name}.txt"
    command = [sys.executable, "-c", f"out = open({str(output)!r}, 'w'); {program}"]
    return Step(name, name, command, output, output, list(inputs), list(needs), **kwargs)


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def runner(tmp_path, screen) -> Runner:
    return Runner(tmp_path, tmp_path / "out", Display(screen), slots=2)


class TestRunner:
    def test_a_step_waits_for_what_it_needs(self, tmp_path, runner):
        first = _step(tmp_path, "first", "import time; time.sleep(0.5); out.write('made')")
        source = tmp_path / "first.txt"
        second = _step(tmp_path, "second", f"out.write(open({str(source)!r}).read())", ["first"], [source])
        runner.run([second, first])
        assert (tmp_path / "second.txt").read_text() == "made"

    def test_steps_that_do_not_need_each_other_run_side_by_side(self, tmp_path, runner):
        """Each waits for the other's file: one after the other, the first would wait in vain."""
        program = "assert any(os.path.exists({!r}) or time.sleep(0.1) for _ in range(200))"
        steps = [
            _step(
                tmp_path,
                name,
                "out.close(); import os, time; " + program.format(str(tmp_path / f"{other}.txt")),
            )
            for name, other in (("one", "two"), ("two", "one"))
        ]
        runner.run(steps)

    def test_done_steps_are_kept_and_changed_ones_run_again(self, tmp_path, runner, screen):
        source = tmp_path / "source"
        source.write_text("a")

        def steps(settings):
            append = f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); out.write('done')"
            return [_step(tmp_path, "step", append, inputs=[source], settings=settings)]

        def runs():
            return len((tmp_path / "runs").read_text())

        def fresh():
            return Runner(tmp_path, tmp_path / "out", Display(screen), slots=1)

        runner.run(steps({"a": 1}))
        fresh().run(steps({"a": 1}))
        assert runs() == 1 and "kept" in screen.getvalue()
        fresh().run(steps({"a": 2}))  # other settings
        assert runs() == 2
        source.write_text("b")  # other input
        fresh().run(steps({"a": 2}))
        assert runs() == 3
        (tmp_path / "step.txt").write_text("tampered")  # other result
        fresh().run(steps({"a": 2}))
        assert runs() == 4
        (tmp_path / "step.txt").unlink()
        fresh().run(steps({"a": 2}))
        assert runs() == 5

    def test_settings_reach_the_command_and_none_leak_into_others(self, tmp_path, runner, monkeypatch):
        monkeypatch.setenv("LDNET_SETTINGS", '{"stray": 1}')
        program = "import os; out.write(os.environ.get('LDNET_SETTINGS', 'none'))"
        runner.run(
            [_step(tmp_path, "with", program, settings={"a": [1]}), _step(tmp_path, "without", program)]
        )
        assert json.loads((tmp_path / "with.txt").read_text()) == {"a": [1]}
        assert (tmp_path / "without.txt").read_text() == "none"

    def test_a_failure_says_what_where_and_the_log_has_it_all(self, tmp_path, runner):
        bad = _step(tmp_path, "bad", "print('much'); raise ValueError('the cause')")
        later = _step(tmp_path, "later", "pass", ["bad"])
        with pytest.raises(StepFailed, match="'bad' ended with status 1") as failure:
            runner.run([bad, later])
        assert "the cause" in str(failure.value)
        log = re.search("The whole log: (.*)", str(failure.value)).group(1)
        assert "much" in Path(log).read_text()
        assert not (tmp_path / "later.txt").exists()

    def test_after_a_failure_the_step_runs_again_and_others_are_kept(self, tmp_path, runner, screen):
        good = _step(tmp_path, "good", "out.write('g')")
        flag = tmp_path / "flag"
        bad = _step(tmp_path, "bad", f"open({str(flag)!r})", ["good"])
        with pytest.raises(StepFailed):
            runner.run([good, bad])
        flag.touch()
        Runner(tmp_path, tmp_path / "out", Display(screen), slots=1).run([good, bad])
        assert re.findall(r"^ *(\w+)  (\w+)", screen.getvalue(), re.M)[-2:] == [
            ("kept", "good"),
            ("done", "bad"),
        ]

    def test_success_without_a_result_is_a_failure(self, tmp_path, runner):
        step = _step(tmp_path, "step", "pass")._replace(result=tmp_path / "elsewhere")
        with pytest.raises(StepFailed, match="did not write"):
            runner.run([step])

    def test_a_failure_stops_what_runs_beside_it(self, tmp_path, runner):
        slow = _step(tmp_path, "slow", "import time; time.sleep(60)")
        bad = _step(tmp_path, "bad", "import time; time.sleep(0.5); raise SystemExit(3)")
        before = threading.active_count()
        started = time.monotonic()
        with pytest.raises(StepFailed, match="'bad' ended with status 3"):
            runner.run([slow, bad])
        assert threading.active_count() == before  # the slow one's thread ends only with its process
        assert time.monotonic() - started < 50


class TestProgress:
    LINE = "2026-01-01 00:00:00,000 - INFO - allennlp.training.gradient_descent_trainer - "

    def test_epochs_and_bars_add_up(self):
        progress = Progress()
        for line, fraction, note in [
            ("loading instances: 184it [00:01, 183.84it/s]\r", 0.0, "loading instances"),
            (self.LINE + "Epoch 0/1\n", 0.0, "epoch 1/2"),
            ("accuracy: 0.5, batch_loss: 9.1, loss: 8.5 ||:  50%|####5     | 24/48 [00:02<00:04, 6.7it/s]\r",
             0.225, "epoch 1/2, accuracy 0.5"),
            (self.LINE + "Validating\n", 0.225, "epoch 1/2, accuracy 0.5"),
            ("perplexity: 90.1, loss: 4.5 ||: 100%|##########| 14/14 [00:01<00:00, 9.9it/s]\r",
             0.5, "epoch 1/2, perplexity 90.1"),
            (self.LINE + "Epoch 1/1\n", 0.5, "epoch 2/2"),
            ("  0%|          | 0/48 [00:00<?, ?it/s]" + self.LINE + "Batch inputs\n", 0.5, "epoch 2/2"),
            ("loss: 1.0 ||: 100%|####| 1,200/1,200 [00:01<00:00, 9.9it/s]\r", 0.95, "epoch 2/2, loss 1.0"),
            ("loss: 2.0 ||:   7%|7   | 1/14 [00:01<00:00, 9.9it/s]\r", 0.95, "epoch 2/2, loss 2.0"),
        ]:  # fmt: skip
            progress.read(line)
            assert (progress.fraction, progress.note) == (pytest.approx(fraction), note)

    def test_text_of_any_kind_is_harmless(self):
        progress = Progress()
        for line in ["", "\n", "100%", "Epoch 3/4", "tensor([[1, 2]])\n", "50%|\n", "[00:00<?, ?it/s]"]:
            progress.read(line)
        assert progress.fraction == 0.0


class TestCommandLine:
    def test_user_files_must_be_there_and_complete(self, tmp_path):
        file = tmp_path / "a"
        file.touch()
        with pytest.raises(BadArguments, match="--lm-valid is missing"):
            find_data(parse_arguments(["--lm-train", str(file)]), tmp_path)
        with pytest.raises(BadArguments, match="There is no file 'absent'"):
            find_data(parse_arguments(["--lm-train", str(file), "--lm-valid", "absent"]), tmp_path)

    def test_files_are_found_from_where_the_user_is(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a").touch()
        arguments = [
            "--lm-train",
            "a",
            "--lm-valid",
            "a",
            *(f"--ner-{part}=a" for part in ("train", "dev", "test")),
        ]
        data = find_data(parse_arguments(arguments), tmp_path)
        assert data.own_corpus and data.lm_train == data.ner_test == tmp_path / "a"

    def test_settings(self):
        settings = read_settings(["lm.num_epochs=9", "ner.label_encoding=IOB1", "select.lambda_1=[1]"])
        assert settings["lm"] == {**SETTINGS["lm"], "num_epochs": 9}
        assert settings["ner"]["label_encoding"] == "IOB1" and settings["select"]["lambda_1"] == [1]
        assert "label_encoding" not in SETTINGS["ner"]
        for wrong in ("num_epochs=9", "lm.num_epochs", "other.x=1"):
            with pytest.raises(BadArguments, match=re.escape(f"'{wrong}'")):
                read_settings([wrong])

    def test_a_folder_of_others_is_left_alone(self, tmp_path):
        check_folder(tmp_path / "new")
        check_folder(tmp_path)
        (tmp_path / "thesis.txt").touch()
        with pytest.raises(BadArguments, match="not made by the quickstart"):
            check_folder(tmp_path)

    def test_the_plan_can_be_carried_out_in_order(self, tmp_path):
        """Whatever a step reads of what the quickstart makes, a step before it has made."""
        data = find_data(parse_arguments([]), tmp_path)
        made, known = {tmp_path / "sentences.jsonl"}, set()
        for step in plan(tmp_path, data, read_settings([])):
            assert set(step.needs) <= known
            reads = {path for path in step.inputs if tmp_path in path.parents}
            reads |= {
                Path(value)
                for value in (step.settings or {}).values()
                if str(value).startswith(str(tmp_path))
            }
            assert all(any(path == there or there in path.parents for there in made) for path in reads), (
                step.name
            )
            made.add(step.output)
            known.add(step.name)
        assert all(archive(tmp_path, model).parent == tmp_path or archive(tmp_path, model).parent in made
                   for model in MODELS)  # fmt: skip


class TestExamples:
    def test_conll_columns_are_read(self, tmp_path):
        path = tmp_path / "a.conll"
        path.write_text("-DOCSTART- -X- O O\n\nA NN O B-X\nb VB O O\n\n\t\nC NN O O\n")
        assert read_sentences(path) == [(["A", "b"], ["B-X", "O"]), (["C"], ["O"])]

    def test_examples_are_sentences_of_a_readable_length_with_labels(self, tmp_path):
        path = tmp_path / "a.conll"
        rows = ["w\tO\n" * 10, "w\tB-X\n" * 40, "v\tB-X\n" + "w\tO\n" * 9, "w\tO\n" * 2]
        path.write_text("\n".join(rows))
        write_examples(path, tmp_path / "s.jsonl", count=1)
        assert json.loads((tmp_path / "s.jsonl").read_text()) == {"sentence": "v" + " w" * 9}
