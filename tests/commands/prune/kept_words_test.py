import copy

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.prune.kept_words import KeptWords
from ldnet_allennlp.commands.sentences import read_words
from ldnet_allennlp.common.verification import difference, outputs_of
from ldnet_allennlp.data.language_model_vocabulary import words_of
from tests.builders import WORDS, language_model_archive
from tests.taggers import LanguageModels, build_language_models, build_tagger, ldnet_embedder, tagger_params

KEPT = {"the", "list", "of", "python", "elsewhere"}


def models_of(embedder):
    return list(embedder.language_models.values())


def test_rows_and_words_that_are_left(language_models):
    tagger = build_tagger(tagger_params(language_models))
    before = [model.embedding.weight.clone() for model in models_of(tagger.embedder)]
    old = words_of(tagger.model.vocab, "ldnet_words")
    told = KeptWords(tagger.model.vocab, [tagger.embedder], tagger.reader, KEPT).drop_others()
    new = words_of(tagger.model.vocab, "ldnet_words")
    assert new[:2] == old[:2] and set(new[2:]) == {"<eos>", "the", "list", "of", "python"}
    for model, weights in zip(models_of(tagger.embedder), before):
        assert model.embedding.weight.size(0) == model.embedding.num_embeddings == len(new)
        assert not model.embedding.weight.requires_grad
        for row, word in enumerate(new):
            assert torch.equal(model.embedding.weight[row], weights[old.index(word)])
        assert new[model.boundary_id] == "<eos>"
    assert told == [f"Words of the language models (ldnet_words): 5 of {len(WORDS)} are kept."]


def test_a_dropped_word_is_read_as_the_unknown_one(language_models):
    """As if its vector had been that of the unknown token all the time."""
    tagger = build_tagger(tagger_params(language_models))
    sentences = [["the", "class", "of", "python"], ["class"], ["Zork", "list"]]
    twin = copy.deepcopy(tagger.model)
    row = words_of(twin.vocab, "ldnet_words").index("class")
    with torch.no_grad():
        for model in models_of(ldnet_embedder(twin)):
            model.embedding.weight[row] = model.embedding.weight[1]
    expected = outputs_of(twin, tagger.reader, sentences)
    assert difference(outputs_of(tagger.model, tagger.reader, sentences), expected) != ""
    KeptWords(tagger.model.vocab, [tagger.embedder], tagger.reader, KEPT).drop_others()
    assert difference(outputs_of(tagger.model, tagger.reader, sentences), expected) == ""


def test_a_backward_vocabulary_of_its_own(tmp_path):
    backward = ["<eos>", "number", "the", "class", "Zork"]
    archives = LanguageModels(
        language_model_archive(tmp_path / "forward", "forward"),
        language_model_archive(tmp_path / "backward", "backward", words=backward),
    )
    tagger = build_tagger(tagger_params(archives))
    words = KeptWords(tagger.model.vocab, [tagger.embedder], tagger.reader, {"the", "number"})
    assert [word for word in ["the", "Zork", "python", "nothing"] if words.reads_the_same(word)] == [
        "the",
        "nothing",
    ]
    before = outputs_of(tagger.model, tagger.reader, [["the", "number", "nothing"]])
    assert len(words.drop_others()) == 2
    assert difference(before, outputs_of(tagger.model, tagger.reader, [["the", "number", "nothing"]])) == ""
    assert words_of(tagger.model.vocab, "ldnet_backward_words")[2:] == ["<eos>", "number", "the"]
    assert words_of(tagger.model.vocab, "ldnet_words")[2:] == ["<eos>", "the", "number"]
    assert [model.embedding.weight.size(0) for model in models_of(tagger.embedder)] == [5, 5]


def test_words_in_lower_case(language_models):
    overrides = {"dataset_reader.token_indexers.ldnet.lowercase_tokens": True}
    tagger = build_tagger(tagger_params(language_models, overrides=overrides))
    words = KeptWords(tagger.model.vocab, [tagger.embedder], tagger.reader, {"The", "LIST"})
    assert words.reads_the_same("THE") and not words.reads_the_same("Class")
    words.drop_others()
    assert words_of(tagger.model.vocab, "ldnet_words")[2:] == ["<eos>", "the", "list"]


def test_words_that_no_language_model_knows(language_models):
    tagger = build_tagger(tagger_params(language_models))
    with pytest.raises(ConfigurationError, match=f"None of the 2 words to keep is among the {len(WORDS)}"):
        KeptWords(tagger.model.vocab, [tagger.embedder], DatasetReader(), {"Zork", "@@UNKNOWN@@"})


def test_without_a_boundary(tmp_path):
    archives = build_language_models(tmp_path, words=["the", "class", "python"])
    assert load_archive(archives.lm_forward).model.vocab.get_vocab_size("tokens") == 5
    tagger = build_tagger(tagger_params(archives))
    KeptWords(tagger.model.vocab, [tagger.embedder], tagger.reader, {"python"}).drop_others()
    assert words_of(tagger.model.vocab, "ldnet_words")[2:] == ["python"]
    assert outputs_of(tagger.model, tagger.reader, [["python", "class"]])


def test_read_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("the\n\n  list \nthe\r\nnaïve\n", encoding="utf-8")
    assert read_words(str(path)) == {"the", "list", "naïve"}
    path.write_text("the\nlist\n", encoding="utf-8-sig")  # as editors on Windows write it
    assert read_words(str(path)) == {"the", "list"}
    path.write_text("\n \n")
    with pytest.raises(ConfigurationError, match="expected to have one word per line, but it has none"):
        read_words(str(path))
    path.write_bytes(b"na\xefve\n")
    with pytest.raises(ConfigurationError, match="line 1: found the byte 0xef"):
        read_words(str(path))
