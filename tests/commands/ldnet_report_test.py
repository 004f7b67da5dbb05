import argparse
import json
import os
import shutil

import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.commands.ldnet_report import LdnetReport, report
from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.commands.report.table import table
from tests.taggers import DEV, gated_archive

GATES = [0.7, 0.0, 1.0, 0.0, 0.0, 0.4, 0.0, 0.0]


@pytest.fixture(scope="module")
def archives(language_models, tmp_path_factory):
    """A gated tagger and the one that is pruned of it."""
    folder = tmp_path_factory.mktemp("archives")
    gated = gated_archive(folder / "gated.tar.gz", language_models, GATES)
    prune_archive(gated, str(folder / "pruned.tar.gz"))
    return [gated, str(folder / "pruned.tar.gz")]


def run(*arguments):
    """As the command line does, in this process."""
    parser = argparse.ArgumentParser()
    LdnetReport().add_subparser(parser.add_subparsers())
    args = parser.parse_args(["ldnet-report", *arguments])
    args.func(args)


def words_in(path):
    """The words of a CoNLL file, a list a sentence."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    return [[line.split()[0] for line in block.splitlines()] for block in blocks]


def test_the_command(archives, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file, plot = tmp_path / "new" / "report.json", tmp_path / "report.svg"
    threads = torch.get_num_threads()
    run(
        *archives,
        "--json",
        str(file),
        "--plot",
        str(plot),
        "--threads",
        "1",
        "--passes",
        "1",
        "--text",
        str(DEV),
    )
    assert torch.get_num_threads() == threads
    printed = capsys.readouterr().out.splitlines()
    found = json.loads(file.read_text())
    assert printed[: len(table(found["archives"], ["gated", "pruned"]))] == table(
        found["archives"], ["gated", "pruned"]
    )
    words = [word for sentence in words_in(DEV) for word in sentence]
    assert found["num_words"] == len(words) and found["text"] == str(DEV) and found["threads"] == 1
    assert found["characters_per_word"] == pytest.approx(sum(map(len, words)) / len(words))
    assert f"1 thread, batches of 32, median of 1 pass over {len(words)} words ({DEV})" in printed[-1]
    for path, one in zip(archives, found["archives"]):
        costs = component_costs(load_archive(path).model, found["characters_per_word"])
        assert one["multiply_adds"] == pytest.approx(costs.total) and one["words_per_second"] > 0
    before, after = found["archives"]
    for key in ("multiply_adds", "parameters", "total_bytes", "archive_bytes"):
        assert after[key] < before[key]
    assert ">gated<" in plot.read_text(encoding="utf-8") and sorted(os.listdir(str(tmp_path / "new"))) == [
        "report.json"
    ]


def test_the_length_of_words(archives, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a list of\n\nthe thing\n")
    found = report(archives[:1], text=str(text), passes=0)
    assert found["characters_per_word"] == 15 / 5 and found["num_words"] == 5
    assert report(archives[:1], characters_per_word=8.0, passes=0)["characters_per_word"] == 8.0


@pytest.mark.parametrize("name, text_format", [("text.conll", "auto"), ("text", "conll")])
def test_columns(archives, language_models, tmp_path, name, text_format):
    """By the tagger's reader, or, for a language model, whose reader reads lines, the first column."""
    path = tmp_path / name
    path.write_text(DEV.read_text(encoding="utf-8"), encoding="utf-8")
    for archive in (archives[0], language_models.lm_forward):
        found = report([archive], text=str(path), text_format=text_format, passes=0)
        assert found["num_words"] == sum(map(len, words_in(DEV)))
    found = report([archives[0]], text=str(path), text_format="plain", passes=0)
    assert found["num_words"] == len(DEV.read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name, text_format", [("text.jsonl", "auto"), ("text", "annotated")])
def test_annotated_documents(archives, language_models, tmp_path, name, text_format):
    path = tmp_path / name
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("A list.", "The thing: a list.")))
    for archive in (archives[0], language_models.lm_forward):
        found = report([archive], text=str(path), text_format=text_format, passes=0)
        assert found["num_words"] == 3 + 6
    found = report([archives[0]], text=str(path), text_format="plain", passes=0)
    assert found["num_words"] == 3 + 5


def test_several_files(archives, tmp_path):
    for name in ("a.conll", "b.conll"):
        shutil.copy(DEV, tmp_path / name)
    for text in (str(tmp_path / "*.conll"), f"{tmp_path / 'a.conll'},{tmp_path / 'b.conll'}"):
        found = report(archives[:1], text=text, passes=0)
        assert found["num_words"] == 2 * sum(map(len, words_in(DEV)))


def test_taggers_and_language_models_are_measured_on_the_same(archives, language_models):
    found = report([archives[1], language_models.lm_backward], passes=1)
    assert all(one["words_per_second"] > 0 for one in found["archives"])
    assert found["text"] is None and found["num_words"] > 2000


def test_errors_are_told_in_a_line_before_the_work(archives, tmp_path, monkeypatch):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for options, message in [
        ((str(tmp_path / "none"),), "No archive was found"),
        (("--plot", "x.pdf"), "expected to be a .png or a .svg file"),
        (("--text", str(empty)), "was expected to have one sentence per line, but it has none"),
        (("--text", str(tmp_path / "missing.conll")), "missing.conll"),
        (("--text", str(tmp_path / "missing")), "missing: could not be read"),
        (("--text", str(empty), "--text-format", "conll"), "found no sentence"),
    ]:
        with pytest.raises(SystemExit, match=f"ldnet-report: .*{message}"):
            run(archives[0], *options, "--passes", "0")


def test_errors_of_a_tagger(archives, tmp_path, capsys):
    """The page's scores are those that `allennlp evaluate` finds."""
    page = tmp_path / "new" / "errors.html"
    run(archives[0], "--errors", str(DEV), "--html", str(page))
    printed = capsys.readouterr().out
    metrics = evaluate_from_archive(archives[0], str(DEV))
    assert f"F1 {100 * metrics['f1-measure-overall']:.2f} on {len(words_in(DEV))} sentences" in printed
    text = page.read_text("utf-8")
    assert f"{100 * metrics['precision-overall']:.2f}</td>" in text and "Expected calibration error" in text
    for options in (
        ["--errors", str(DEV)],
        ["--html", str(page)],
        [archives[1], "--errors", "x", "--html", "y"],
    ):
        with pytest.raises(SystemExit, match="--errors FILE and --html FILE belong together"):
            run(archives[0], *options)


def test_errors_of_what_is_no_tagger(language_models, tmp_path):
    with pytest.raises(SystemExit, match=r"the AdaptiveLanguageModel of '.*' has no label_encoding"):
        run(language_models.lm_forward, "--errors", str(DEV), "--html", str(tmp_path / "x.html"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option, value",
    [
        ("--threads", "0"),
        ("--passes", "-1"),
        ("--characters-per-word", "x"),
        ("--characters-per-word", "nan"),
    ],
)
def test_numbers_that_cannot_be(archives, option, value, capsys):
    with pytest.raises(SystemExit):
        run(archives[0], option, value)
    assert f"found '{value}'" in capsys.readouterr().err
