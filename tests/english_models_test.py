"""The models that the repository ships: whole files, and what their card says of them."""

import hashlib

import pytest

from ldnet_runtime import Tagger
from tests.resources import ROOT

FOLDER = ROOT / "models" / "english"
CHECKSUMS = dict(line.split()[::-1] for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
TAGGERS = sorted(FOLDER.glob("*.onnx"))


def test_every_file_has_its_checksum_and_its_place_in_the_card():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix in (".gz", ".onnx")}
    assert set(files) == set(CHECKSUMS)
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == CHECKSUMS[name], name
        assert f"`{name}`" in card


def test_the_language_models_are_small():
    assert sum((FOLDER / f"{way}.tar.gz").stat().st_size for way in ("forward", "backward")) <= 40e6


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_language_models_load(direction):
    from ldnet_allennlp.data.language_model_archive import read_language_model

    model = read_language_model(str(FOLDER / f"{direction}.tar.gz"))
    assert model.direction == direction and model.boundary == "<eos>"
    assert model.embedding.shape == (len(model.words), model.contextualizer.get_input_dim())
    assert {"the", "London", "government"} < set(model.words)


@pytest.mark.parametrize("path", TAGGERS, ids=lambda path: path.name)
def test_taggers_are_small_and_tag(path):
    assert path.stat().st_size < 15e6
    tagger = Tagger(path)
    words = ["In", "1815", "Ada", "Lovelace", "was", "born", "in", "London", "."]
    assert len(tagger(words).tags) == len(words)


def test_named_entities():
    spans = Tagger(FOLDER / "ner.onnx")("Angela Merkel was born in Hamburg and lives in Berlin .")
    assert ("Angela Merkel", "PER") in {(span.text, span.label) for span in spans}
    assert {"LOC"} == {span.label for span in spans if span.text in ("Hamburg", "Berlin")}


def test_parts_of_speech():
    tags = Tagger(FOLDER / "pos.onnx")("Ada Lovelace wrote to her in London .").tags
    assert list(tags) == ["PROPN", "PROPN", "VERB", "ADP", "PRON", "ADP", "PROPN", "PUNCT"]
