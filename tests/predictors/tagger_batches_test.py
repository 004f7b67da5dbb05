import random

import pytest
import torch
from allennlp.data.fields import MetadataField

from ldnet_allennlp.common.verification import difference
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from ldnet_allennlp.predictors.tagger_batches import TaggerBatches
from tests.taggers import build_tagger, tagger_params

WORDS = ["python", "list", "object", "the", "Zork", "naïve", "日本", "x" * 30]


@pytest.fixture(scope="module")
def tagger(language_models):
    tagger = build_tagger(tagger_params(language_models), seed=11)
    with torch.no_grad():
        for parameter in tagger.model.tag_projection_layer.parameters():
            parameter.uniform_(-3, 3)
    return tagger


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def instances_of(tagger, number=25, words=WORDS):
    rng = random.Random(number)
    return [
        tagger.reader.text_to_instance([rng.choice(words) for _ in range(rng.randint(1, 12))])
        for _ in range(number)
    ]


def by_allennlp(tagger, instances):
    """One sentence after the other: without padding, threads or tables."""
    for instance in instances:
        tagger.reader.apply_token_indexers(instance)
    return [tagger.model.forward_on_instance(instance) for instance in instances]


def check(found, expected):
    assert difference(as_lists(found), as_lists(expected)) == ""


def as_lists(outputs):
    return [
        {"tags": output["tags"], "logits": output["logits"][: len(output["tags"])].tolist()}
        for output in outputs
    ]


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("tokens_per_batch", [1, 30, 1000])
def test_equals_one_sentence_after_the_other(
    tagger, three_threads, monkeypatch, tokens_per_batch, num_workers
):
    monkeypatch.setattr(tagger.model, "return_logits", True)
    expected = by_allennlp(tagger, instances_of(tagger))
    batches = TaggerBatches(tagger.model, tagger.reader, tokens_per_batch, num_workers)
    check(batches.outputs(instances_of(tagger)), expected)


def test_what_tables_do_not_serve(tagger, monkeypatch):
    monkeypatch.setattr(tagger.model, "return_logits", True)
    batches = TaggerBatches(tagger.model, tagger.reader, 60, 1)
    long_words = instances_of(tagger, words=[*WORDS, "y" * 300])
    check(batches.outputs(long_words), by_allennlp(tagger, long_words))
    other_fields = instances_of(tagger)
    for instance in other_fields:
        instance.add_field("note", MetadataField("something"))
    monkeypatch.setattr(
        tagger.model, "forward", lambda note, _forward=tagger.model.forward, **rest: _forward(**rest)
    )
    check(batches.outputs(other_fields), by_allennlp(tagger, other_fields))


def test_characters_are_read_without_padding(tagger):
    """Each batch's strings are of similar lengths: in all, little more is read than there is."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abc", k=rng.randint(1, 9))) for _ in range(200)]
    instances = instances_of(tagger, 400, words)
    read = []
    module = next(module for module in tagger.model.modules() if isinstance(module, SentenceCharacterLstm))
    hook = module.forward_rnn.register_forward_hook(
        lambda _, given, output: read.append(output[0][..., 0].numel())
    )
    TaggerBatches(tagger.model, tagger.reader, 256, 1).outputs(instances)
    hook.remove()
    strings = sum(
        1 + sum(len(token.text) + 1 for token in instance["tokens"].tokens) for instance in instances
    )
    assert strings <= sum(read) < 1.25 * strings


class TestAutocast:
    def test_scores_are_near(self, tagger, monkeypatch):
        monkeypatch.setattr(tagger.model, "return_logits", True)
        sentences = [{"tokens": ["the", "list", "of", "python"]}, {"tokens": ["object"]}]
        plain = LdnetTaggerPredictor(tagger.model, tagger.reader).predict_batch_json(sentences)
        half = LdnetTaggerPredictor(tagger.model, tagger.reader, autocast="bfloat16").predict_batch_json(
            sentences
        )
        assert tagger.model.autocast is None
        for one, other in zip(plain, half):
            first, second = torch.tensor(one["logits"]), torch.tensor(other["logits"])
            assert not torch.equal(first, second)
            torch.testing.assert_close(first, second, rtol=0, atol=0.5)
            assert all(0 <= span["confidence"] <= 1 for span in other["spans"])
