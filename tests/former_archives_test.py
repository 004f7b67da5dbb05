"""
Archives of v0.1.0, trained with torch 2.6, and what `allennlp predict` wrote for `fixtures/tagger/dev.conll` then: a
tagger with language models, one whose gates were trained, and the same pruned to two layers.
"""

import json

import pytest
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

import ldnet_allennlp  # noqa: F401
from tests.resources import FIXTURES


@pytest.mark.parametrize("name", ["ungated", "gated", "pruned"])
@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_predictions_are_those_of_the_release(name, engine):
    archive = FIXTURES / "archives" / f"{name}-v0.1.0.tar.gz"
    predictor = Predictor.from_archive(
        load_archive(str(archive)), "ldnet_tagger", extra_args={"engine": engine}
    )
    released = [
        json.loads(line) for line in archive.with_name(f"{name}-v0.1.0.jsonl").read_text().splitlines()
    ]
    assert len(released) == 8
    for line, output in zip(
        released, predictor.predict_batch_json([{"tokens": line["words"]} for line in released])
    ):
        assert output["words"] == line["words"] and output["tags"] == line["tags"]
        assert len(output["spans"]) == len(line["spans"])
        for span, former in zip(output["spans"], line["spans"]):
            assert {key: span[key] for key in ("type", "start", "end", "text")} == {
                key: former[key] for key in ("type", "start", "end", "text")
            }
            assert span["confidence"] == pytest.approx(former["confidence"], abs=1e-5)
