"""Corpora as they come, through `allennlp train` and `predict`: told with file and line, or read in full."""

import gzip
import json
import re
from pathlib import Path

import pytest
import torch
from allennlp.models.archival import load_archive

from tests.bad_days.configs import language_model_config, tagger_config, write_config
from tests.command_lines import allennlp
from tests.resources import FIXTURES
from tests.taggers import TRAIN

CONFIGS = {"tagger": tagger_config, "language model": language_model_config}
TEXTS = {"tagger": TRAIN, "language model": FIXTURES / "lm" / "train.txt"}

BAD = {
    "a NUL byte": (lambda text: text[:500] + b"\0" + text[500:], "LINE.*NUL"),
    "Latin-1": (lambda text: text[:500] + b"\xe9" + text[500:], r"LINE: .*xe9.*(utf-8|UTF-8)"),
    "UTF-16": (lambda text: text.decode().encode("utf-16"), "LINE.*NUL"),
    "cut gzip": (lambda text: gzip.compress(text)[:-9], "could not be read after line"),
    "empty": (lambda text: b"", "no (sentence|token)"),
    "white space": (lambda text: b" \n\t\n\n \t \n", "no (sentence|token)"),
    "a mark alone": (lambda text: b"\xef\xbb\xbf", "no (sentence|token)"),
}


def train(folder: Path, config):
    return allennlp("train", write_config(folder / "c.json", config), "-s", folder / "out", folder=folder)


@pytest.mark.parametrize("what", list(BAD))
@pytest.mark.parametrize("kind", list(CONFIGS))
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, kind, what):
    spoil, told = BAD[what]
    content = TEXTS[kind].read_bytes()
    path = tmp_path / "corpus"
    path.write_bytes(spoil(content))
    done = train(tmp_path, CONFIGS[kind](train=path))
    line = 1 if what == "UTF-16" else content[:500].count(b"\n") + 1
    assert done.status == 1 and done.message.startswith("allennlp.common.checks.ConfigurationError: ")
    pattern = told.replace("LINE", f"corpus, line {line}")
    assert str(path) in done.message and re.search(pattern, done.message), done.message
    assert not (tmp_path / "out" / "model.tar.gz").exists()


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_line_ends_marks_and_compression_make_no_difference(tmp_path, kind):
    """The weights after training are the same, bit for bit."""
    content = TEXTS[kind].read_bytes()
    variants = [
        content,
        b"\xef\xbb\xbf" + content.replace(b"\n", b"\r"),
        gzip.compress(content.rstrip(b"\n").replace(b"\n\n", b"\n\n \t\n\n").replace(b"\n", b"\r\n")),
    ]
    weights = []
    for number, variant in enumerate(variants):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "corpus").write_bytes(variant)
        config = CONFIGS[kind](train="corpus")
        config["trainer"]["num_epochs"] = 1
        assert train(folder, config).status == 0
        weights.append(load_archive(str(folder / "out" / "model.tar.gz")).model.state_dict())
    for other in weights[1:]:
        assert set(other) == set(weights[0])
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())


class TestLittle:
    @pytest.mark.parametrize(
        "train_text, dev_text, accuracy",
        [
            ("a O\n", "a O\n", 1.0),  # one word, one label, one sentence
            ("a U-X\n\na U-X\n", "a U-X\n", 1.0),
            ("a O\nb B-X\n", "a O\n\nb B-NEW\n", None),  # a label that training has not
        ],
    )
    def test_a_tagger(self, tmp_path, train_text, dev_text, accuracy):
        """It is trained, scored and asked as any other."""
        (tmp_path / "train").write_text(train_text)
        (tmp_path / "dev").write_text(dev_text)
        config = {**tagger_config("train", "dev"), "datasets_for_vocab_creation": ["train"]}
        config["trainer"]["optimizer"]["lr"] = 1.0
        config["trainer"]["num_epochs"] = 5
        done = train(tmp_path, config)
        assert done.status == 0, done.err
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        if accuracy is None:
            assert metrics["best_validation_unseen_labels"] == 1 and metrics["best_validation_accuracy"] < 1
        else:
            assert metrics["best_validation_accuracy"] == accuracy
        (tmp_path / "in").write_text("a b never\n")
        options = ("--silent", "--output-file", tmp_path / "out.jsonl")
        assert allennlp("predict", "out/model.tar.gz", "in", *options, folder=tmp_path).status == 0
        (output,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
        assert output["words"] == ["a", "b", "never"] and len(output["tags"]) == 3

    def test_a_language_model_of_one_word(self, tmp_path):
        """It learns that a boundary follows."""
        (tmp_path / "train").write_text("a\n" * 400)
        (tmp_path / "valid").write_text("a\na")
        config = language_model_config("train", "valid")
        config["trainer"].update(num_epochs=5, optimizer={"type": "adam", "lr": 0.1})
        done = train(tmp_path, config)
        assert done.status == 0, done.err
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert 1 <= metrics["best_validation_perplexity"] < 1.5


class TestMuch:
    """A line of 100,000 tokens."""

    @pytest.fixture(scope="class")
    def words(self):
        words = (FIXTURES / "lm" / "train.txt").read_text().split()
        return (words * (100_000 // len(words) + 1))[:100_000]

    def test_a_language_model(self, tmp_path, words):
        (tmp_path / "train").write_text(" ".join(words))
        config = language_model_config("train", batch_size=100, sequence_length=50)
        done = train(tmp_path, config)
        assert done.status == 0, done.err
        assert "100001 tokens" in (tmp_path / "out" / "out.log").read_text()

    def test_a_sentence_to_tag(self, tmp_path, words):
        config = tagger_config()
        config["trainer"]["num_epochs"] = 1
        assert train(tmp_path, config).status == 0
        (tmp_path / "in").write_text("the list\n" + " ".join(words) + "\npython\n")
        args = ("--predictor-args", '{"output": "inline", "confidences": false}')
        options = ("--silent", "--batch-size", 3, "--output-file", tmp_path / "out.txt")
        done = allennlp("predict", "out/model.tar.gz", "in", *options, *args, folder=tmp_path)
        assert done.status == 0, done.err
        lines = (tmp_path / "out.txt").read_text().split("\n")
        found = [word for word in lines[1].split(" ") if not word.startswith("<")]
        assert len(lines) == 4 and len(found) == 100_000 and found[:3] == words[:3]
