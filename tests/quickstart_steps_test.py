"""The quickstart's runner (order, what is kept, what a failure prints), its arguments, its recipe and its report."""

import json
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from quickstart import steps as steps_module
from quickstart.__main__ import ENGLISH, SETTINGS, first_stages, parse_arguments, recipe
from quickstart.report import MODELS, archive, bracketed, examples, first_tags, report
from quickstart.steps import Runner, Step, StepFailed


def make(folder: Path, name: str, program: str, inputs=(), **options) -> Step:
    output = folder / f"{name}.txt"
    command = [sys.executable, "-c", f"out = open({str(output)!r}, 'w'); {program}"]
    return Step(name, command, output, list(inputs), **options)


@pytest.fixture
def runner(tmp_path) -> Runner:
    return Runner(tmp_path, tmp_path / "out")


class TestRunner:
    def test_the_steps_of_a_stage_run_side_by_side(self, tmp_path, runner):
        """Each waits for the other's file: one after the other, the first would wait in vain."""
        program = "assert any(os.path.exists({!r}) or time.sleep(0.1) for _ in range(200))"
        runner.run(
            [
                make(tmp_path, name, "import os, time; " + program.format(str(tmp_path / f"{other}.txt")))
                for name, other in (("one", "two"), ("two", "one"))
            ]
        )

    def test_finished_steps_are_kept_and_changed_ones_run_again(self, tmp_path, capsys):
        source = tmp_path / "source"
        source.write_text("a")

        def run(settings):
            append = f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); out.write('done')"
            Runner(tmp_path, tmp_path / "out").run(
                [make(tmp_path, "step", append, [source], settings=settings)]
            )
            return len((tmp_path / "runs").read_text())

        assert [run({"a": 1}), run({"a": 1})] == [1, 1]
        assert "kept" in capsys.readouterr().out
        assert run({"a": 2}) == 2  # other settings
        source.write_text("bc")
        assert run({"a": 2}) == 3  # other input
        os.utime(source, ns=(1, 1))
        assert run({"a": 2}) == 4  # input of the same size
        (tmp_path / "step.txt").unlink()
        assert run({"a": 2}) == 5

    def test_settings_reach_the_command_and_none_leak_into_others(self, tmp_path, runner, monkeypatch):
        monkeypatch.setenv("LDNET_SETTINGS", '{"stray": 1}')
        program = "import os; out.write(os.environ['LDNET_SETTINGS'])"
        runner.run([make(tmp_path, "with", program, settings={"a": [1]}), make(tmp_path, "without", program)])
        assert json.loads((tmp_path / "with.txt").read_text()) == {"a": [1]}
        assert json.loads((tmp_path / "without.txt").read_text()) == {}

    def test_a_failure_shows_the_end_of_the_log(self, tmp_path, runner):
        bad = make(tmp_path, "bad", "print('much'); raise ValueError('the cause')")
        with pytest.raises(StepFailed, match="'bad' ended with status 1") as failure:
            runner.run([bad])
        assert "the cause" in str(failure.value)
        log = re.search("The end of its log, (.*):", str(failure.value)).group(1)
        assert "much" in Path(log).read_text()

    def test_a_failed_step_runs_again(self, tmp_path, runner):
        flag = tmp_path / "flag"
        step = make(tmp_path, "bad", f"open({str(flag)!r})")
        with pytest.raises(StepFailed):
            runner.run([step])
        flag.touch()
        runner.run([step])
        flag.unlink()
        step.output.unlink()
        for _ in range(2):  # the second time its output is half written
            with pytest.raises(StepFailed):
                runner.run([step])

    def test_success_without_an_output_is_a_failure(self, tmp_path, runner):
        step = make(tmp_path, "step", "pass")._replace(output=tmp_path / "elsewhere")
        with pytest.raises(StepFailed, match="did not write"):
            runner.run([step])

    def test_a_failure_stops_the_others_of_the_stage(self, tmp_path, runner, monkeypatch):
        processes = []
        popen = steps_module.subprocess.Popen
        monkeypatch.setattr(
            steps_module.subprocess,
            "Popen",
            lambda *arguments, **options: processes.append(popen(*arguments, **options)) or processes[-1],
        )
        slow = make(tmp_path, "slow", "import time; time.sleep(60)")
        bad = make(tmp_path, "bad", "import time; time.sleep(0.5); raise SystemExit(3)")
        threads = threading.active_count()
        with pytest.raises(StepFailed, match="'bad' ended with status 3"):
            runner.run([slow, bad])
        assert threading.active_count() == threads
        assert [process.poll() is not None for process in processes] == [True, True]


class TestArguments:
    @pytest.fixture(autouse=True)
    def caller(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a").touch()

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["--lm-train", "a"], "--lm-valid is missing"),
            (["--lm-train", "a", "--lm-valid", "absent"], "there is no file 'absent'"),
            (["--out", "."], "not made by the quickstart"),
            *(
                (["--set", wrong], f"not '{wrong}'")
                for wrong in ("num_epochs=9", "lm.num_epochs", "other.x=1")
            ),
        ],
    )
    def test_wrong_ones_end_with_a_message(self, capsys, arguments, message):
        with pytest.raises(SystemExit):
            parse_arguments(arguments)
        assert message in capsys.readouterr().err

    def test_paths_are_relative_to_the_caller(self, tmp_path):
        files = ("lm-train", "lm-valid", "vectors", "ner-train", "ner-dev", "ner-test")
        out, data, _ = parse_arguments(["--out", "new", *(f"--{name}=a" for name in files)])
        assert out == tmp_path / "new"
        assert set(data.values()) == {tmp_path / "a"} and len(data) == 6

    def test_settings(self):
        changes = ["lm.num_epochs=9", "ner.label_encoding=IOB1", "select.lambda_1=[1]"]
        _, _, settings = parse_arguments(["--out", "new", *(f"--set={change}" for change in changes)])
        assert settings["lm"] == {**SETTINGS["lm"], "num_epochs": 9}
        assert settings["ner"]["label_encoding"] == "IOB1" and settings["select"]["lambda_1"] == [1]
        assert "label_encoding" not in SETTINGS["ner"]


@pytest.mark.parametrize("pretraining", [False, True])
def test_each_stage_reads_only_what_earlier_ones_make(tmp_path, pretraining):
    texts = [f"--lm-{part}={__file__}" for part in ("train", "valid")]
    out, data, settings = parse_arguments(["--out", str(tmp_path), *(texts if pretraining else [])])
    stages = first_stages(out, data)
    outputs = {path for path in data.values() if stages[0][0].output.parent == path.parent}  # the corpus
    assert len(outputs) == 3
    for stage in [*stages, *recipe(out, data, settings)]:
        for step in stage:
            values = [Path(value) for value in (step.settings or {}).values() if isinstance(value, str)]
            reads = {path for path in [*step.inputs, *values] if tmp_path in path.parents} - {out / "cache"}
            assert all(path in outputs or path / "model.tar.gz" in outputs for path in reads), step.name
            assert (ENGLISH / "forward.tar.gz" in step.inputs) == (step.name == "ner" and not pretraining)
        outputs |= {step.output for step in stage}
    assert {archive(tmp_path, model) for model in MODELS} <= outputs


def test_the_users_files_need_no_corpus(tmp_path):
    files = [f"--ner-{part}={__file__}" for part in ("train", "dev", "test")]
    out, data, _ = parse_arguments(["--out", str(tmp_path), *files])
    assert [step.name for stage in first_stages(out, data) for step in stage] == ["tag_english"]


class TestReport:
    TAGGED = (
        {"words": ["a", "b", "c"], "tags": list("BIO"), "spans": [{"start": 0, "end": 2, "type": "X"}]},
        {"words": list("abcdefgh"), "tags": list("OOOOOOOO"), "spans": []},
        {"words": list("abcdefgh"), "tags": list("BOOOOOOO"), "spans": [{"start": 0, "end": 1, "type": "X"}]},
    )

    def write(self, out, pruned=TAGGED):
        for model in ("ner", "ner_vanilla", "ner_select"):
            self.put(out / model / "metrics.json", {"test_f1-measure-overall": 0.5})
        self.put(out / "evaluation.json", {"f1-measure-overall": 0.625})
        gates = [[None] * 2, [1.0, 0.0], [0.5]]
        costs = [{"layers": {}}]
        costs += [{"layers": {"forward": {"gates": g, "unpruned": 2}}} for g in gates]
        for cost in costs:
            cost.update(multiply_adds=2.5e6, archive_bytes=3 * 2**20, words_per_second=1234.4)
        self.put(out / "report.json", {"archives": costs})
        for name, lines in (("ner_select", self.TAGGED), ("pruned", pruned)):
            (out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return "\n".join(report(out))

    def put(self, path, value):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value))

    def test_the_table(self, tmp_path):
        text = self.write(tmp_path)
        rows = [re.split(r"  +", line) for line in text.splitlines() if "MiB" in line]
        assert rows == [
            ["without LM", "0.500", "-", "2.50 M", "3.0 MiB", "1,234"],
            ["with LM, unpruned", "0.500", "2", "2.50 M", "3.0 MiB", "1,234"],
            ["with LM, gated", "0.500", "1 of 2", "2.50 M", "3.0 MiB", "1,234"],
            ["with LM, pruned", "0.625", "1 of 2", "2.50 M", "3.0 MiB", "1,234"],
        ]
        assert "defect" not in text

    def test_other_tags_of_the_pruned_tagger_are_reported(self, tmp_path):
        assert "OTHER TAGS" in self.write(tmp_path, [{**line, "tags": ["O"]} for line in self.TAGGED])

    def test_examples_are_short_sentences_with_spans(self):
        assert examples(list(self.TAGGED), 1) == [self.TAGGED[2]]
        assert examples([self.TAGGED[0]]) == [self.TAGGED[0]]
        assert bracketed(self.TAGGED[0]) == "[a b X] c"

    def test_the_first_tags_are_those_of_the_english_tagger(self, tmp_path):
        (tmp_path / "english.txt").write_text("Nothing .\n<PER> Ada </PER> sang .\n")
        assert [line for line in first_tags(tmp_path) if "." in line][1:] == ["  <PER> Ada </PER> sang ."]
