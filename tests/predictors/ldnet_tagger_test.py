import random

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Token
from allennlp.interpret.saliency_interpreters import IntegratedGradient, SimpleGradient, SmoothGradient
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor
from allennlp_models.tagging.dataset_readers.conll2003 import Conll2003DatasetReader

from ldnet_allennlp.common.verification import difference
from ldnet_allennlp.data.conll.tag_schemes import spans_from_tags, tags_from_spans
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from tests.resources import DATA, needs_data
from tests.taggers import DEV, build_tagger, tagger_params

SENTENCES = ["the list of a class", "python", "Python list object number name is returns the value of Zork ."]


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor.from_path(str(trained / "model.tar.gz"))


@pytest.fixture(scope="module")
def tagging(language_models):
    """A predictor whose tagger has random weights, so that it gives all kinds of tags."""
    tagger = build_tagger(tagger_params(language_models), seed=11)
    with torch.no_grad():
        for parameter in tagger.model.tag_projection_layer.parameters():
            parameter.uniform_(-3, 3)
    return LdnetTaggerPredictor(tagger.model, tagger.reader)


def test_the_archives_default_predictor(predictor):
    assert isinstance(predictor, LdnetTaggerPredictor)


def test_a_sentence_is_its_tokens(tagging):
    for sentence in SENTENCES:
        output = tagging.predict(f"  {sentence}\t ")
        assert output == tagging.predict_json({"sentence": sentence})
        assert output == tagging.predict_json({"tokens": sentence.split()})
        assert set(output) == {"words", "tags", "spans"}
        assert output["words"] == sentence.split() and len(output["tags"]) == len(output["words"])


def test_tokens_may_have_blanks_and_numbers(tagging):
    output = tagging.predict_json({"tokens": ["New York", 7]})
    assert output["words"] == ["New York", "7"]


def test_equals_the_model(tagging):
    instances = [tagging._dataset_reader.text_to_instance(sentence.split()) for sentence in SENTENCES]
    for instance in instances:
        tagging._dataset_reader.apply_token_indexers(instance)
    expected = [output["tags"] for output in tagging._model.forward_on_instances(instances)]
    assert [
        output["tags"] for output in tagging.predict_batch_json([{"sentence": s} for s in SENTENCES])
    ] == expected


def test_spans_end_after_their_last_word(tagging):
    spans = 0
    for sentence in SENTENCES:
        output = tagging.predict(sentence)
        for span in output["spans"]:
            assert span["text"] == " ".join(output["words"][span["start"] : span["end"]])
        found = [(span["type"], span["start"], span["end"] - 1) for span in output["spans"]]
        assert found == spans_from_tags(output["tags"], "BIOUL")
        spans += len(found)
    assert spans > 3


def test_the_order_of_a_batch_and_empty_sentences(tagging):
    inputs = [
        {"sentence": ""},
        *({"sentence": sentence} for sentence in SENTENCES),
        {"tokens": []},
        {"sentence": "  "},
    ]
    outputs = tagging.predict_batch_json(inputs)
    empty = {"words": [], "tags": [], "spans": []}
    assert [outputs[0], *outputs[-2:]] == [empty] * 3
    assert difference(outputs[1:-2], [tagging.predict(sentence) for sentence in SENTENCES]) == ""
    assert tagging.predict_json({"sentence": "\n"}) == empty
    assert tagging.predict_batch_json([]) == []


def test_instances_of_a_reader(tagging):
    """What `allennlp predict --use-dataset-reader` does."""
    reader = tagging._dataset_reader
    instances = [reader.text_to_instance(sentence.split()) for sentence in SENTENCES]
    expected = [tagging.predict(sentence) for sentence in SENTENCES]
    assert difference(tagging.predict_batch_instance(instances), expected) == ""
    assert difference([tagging.predict_instance(instance) for instance in instances], expected) == ""


@pytest.mark.parametrize(
    "wrong, found",
    [
        ({"text": "the list"}, "this was found: text"),
        ({}, "this was found: an empty one"),
        (["the", "list"], "this was found: list"),
        ({"tokens": "the list"}, "its tokens are: 'the list'"),
        ({"sentence": ["the", "list"]}, r"its sentence is: \['the', 'list'\]"),
    ],
)
def test_bad_input(tagging, wrong, found):
    with pytest.raises(ValueError, match=f'a "sentence" .* or "tokens" .*, but {found}'):
        tagging.predict_json(wrong)


def test_with_a_reader_of_upstream(tagging):
    """Upstream's readers take tokens and not words."""
    indexers = tagging._dataset_reader._token_indexers
    reader = Conll2003DatasetReader(token_indexers=indexers, convert_to_coding_scheme="BIOUL")
    other = LdnetTaggerPredictor(tagging._model, reader)
    for sentence in SENTENCES:
        assert other.predict(sentence) == tagging.predict(sentence)


def test_files_that_upstreams_reader_reads(tagging, tmp_path):
    """Labels that the vocabulary does not have stop AllenNLP's evaluation of such a reader, and not prediction."""
    path, out = tmp_path / "in.conll", tmp_path / "out"
    path.write_text("the DT I-NP B-GAME\nlist NN I-NP I-GAME\n\npython NN I-NP O\n")
    reader = Conll2003DatasetReader(token_indexers=tagging._dataset_reader._token_indexers)
    assert LdnetTaggerPredictor(tagging._model, reader, output="inline").tag_file(str(path), str(out)) == 2
    lines = out.read_text().splitlines()
    assert lines == [line.strip("\n") for line in _inline(tagging, ["the list", "python"])]


def _inline(tagging, sentences):
    predictor = with_options(tagging, output="inline")
    return map(predictor.dump_line, predictor.predict_sentences(sentences))


def test_without_a_label_encoding_there_are_no_spans(tagging, monkeypatch):
    monkeypatch.setattr(tagging._model, "label_encoding", None)
    tagging = LdnetTaggerPredictor(tagging._model, tagging._dataset_reader.reader)
    assert set(tagging.predict(SENTENCES[0])) == {"words", "tags"}


def test_labeled_instances_explain_the_predicted_tags(tagging):
    (labeled,) = tagging.json_to_labeled_instances({"sentence": SENTENCES[0]})
    assert labeled["tags"].labels == tagging.predict(SENTENCES[0])["tags"]
    assert isinstance(labeled["tokens"].tokens[0], Token)


@pytest.mark.parametrize("interpreter", [SimpleGradient, IntegratedGradient, SmoothGradient])
def test_saliency_interpreters(predictor, interpreter):
    torch.manual_seed(1)
    trainable = {name: parameter.requires_grad for name, parameter in predictor._model.named_parameters()}
    saliency = interpreter(predictor).saliency_interpret_from_json({"sentence": SENTENCES[2]})
    (gradients,) = saliency["instance_1"].values()
    assert len(gradients) == len(SENTENCES[2].split())
    assert sum(gradients) == pytest.approx(1.0) and min(gradients) >= 0 and len(set(gradients)) > 3
    assert trainable == {n: parameter.requires_grad for n, parameter in predictor._model.named_parameters()}


def test_from_path_is_the_model_of_the_archive(predictor, trained):
    archive = load_archive(str(trained / "model.tar.gz"))
    assert isinstance(archive.dataset_reader, DatasetReader)
    other = LdnetTaggerPredictor(archive.model, archive.dataset_reader)
    assert predictor.predict(SENTENCES[2]) == other.predict(SENTENCES[2])
    options = {"n_best": 2, "marginals": True, "confidences": False}
    output = Predictor.from_path(str(trained / "model.tar.gz"), **options).predict(SENTENCES[2])
    assert set(output) == {"words", "tags", "spans", "n_best", "marginals"}
    assert all("confidence" not in span for span in output["spans"])


def with_options(predictor, **options):
    return LdnetTaggerPredictor(predictor._model, predictor._dataset_reader.reader, **options)


def random_sentences(number, seed=0, longest=30):
    generator = random.Random(seed)
    words = [word for sentence in SENTENCES for word in sentence.split()] + [
        "Zork",
        "naïve",
        "日本",
        "🙂",
        "e\u0301",
    ]
    return [[generator.choice(words) for _ in range(generator.randrange(longest))] for _ in range(number)]


@pytest.mark.parametrize("tokens_per_batch", [1, 60, 100000])
def test_sorted_by_length_and_in_the_order_of_the_input(tagging, tokens_per_batch):
    sentences = random_sentences(40)
    expected = [tagging.predict_json({"tokens": words}) for words in sentences]
    sizes = []
    predictor = with_options(tagging, tokens_per_batch=tokens_per_batch)
    batches = predictor._tagger_batches
    forward = batches._forward
    batches._forward = lambda batch: sizes.append([len(i["tokens"]) for i in batch]) or forward(batch)
    found = predictor.predict_batch_json([{"tokens": words} for words in sentences])
    assert difference(found, expected) == ""
    assert [length for batch in sizes for length in batch] == sorted(
        (len(words) for words in sentences if words), reverse=True
    )
    assert all(len(batch) == 1 or len(batch) * max(batch) <= tokens_per_batch for batch in sizes)
    assert len(sizes) == {1: sum(map(bool, sentences)), 100000: 1}.get(tokens_per_batch, len(sizes))


def test_a_stream_of_sentences(tagging):
    sentences = random_sentences(25, seed=1)
    mixed = [
        " ".join(words) if n % 3 == 0 else words if n % 3 == 1 else {"tokens": words}
        for n, words in enumerate(sentences)
    ]
    taken = []
    outputs = tagging.predict_sentences((taken.append(one) or one for one in mixed), window=10)
    first = next(outputs)
    assert len(taken) == 10  # no more than the window is read ahead
    found = [first, *outputs]
    assert difference(found, [tagging.predict_json({"tokens": words}) for words in sentences]) == ""


def test_n_best_and_marginals(tagging):
    predictor = with_options(tagging, n_best=3, marginals=True)
    before = tagging.predict_json({"sentence": SENTENCES[2]})
    for output in predictor.predict_batch_json([{"sentence": s} for s in ["", *SENTENCES]]):
        assert len(output["marginals"]) == len(output["words"])
        if not output["words"]:
            assert output["n_best"] == [] and output["spans"] == []
            continue
        probabilities = [entry["probability"] for entry in output["n_best"]]
        assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1.000001
        assert output["n_best"][0]["tags"] == output["tags"]
        for span in output["spans"]:
            ofwords = [output["marginals"][i][output["tags"][i]] for i in range(span["start"], span["end"])]
            # A span is at least as probable as the sequence it stands in, and at most as its least probable tag.
            assert probabilities[0] - 1e-6 <= span["confidence"] <= min(ofwords) + 1e-6
    assert tagging.predict_json({"sentence": SENTENCES[2]}) == before  # the model is as it was


def test_upstreams_tagger(language_models):
    """Its tensors are cut to each sentence, and what it cannot give is refused."""
    tagger = build_tagger(tagger_params(language_models, overrides={"model.type": "crf_tagger"}))
    predictor = LdnetTaggerPredictor(tagger.model, tagger.reader)
    short, long = predictor.predict_batch_json([{"sentence": SENTENCES[1]}, {"sentence": SENTENCES[2]}])
    assert set(short) == {"words", "tags", "spans", "logits"}
    assert (len(short["logits"]), len(long["logits"])) == (1, len(long["words"]))
    for options in ({"n_best": 2}, {"marginals": True}):
        with pytest.raises(
            ConfigurationError, match="need a model of the type 'ldnet_tagger', but it is CrfTagger"
        ):
            LdnetTaggerPredictor(tagger.model, tagger.reader, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"input": "csv"}, "Found the input 'csv', expected one of auto, jsonl, text, conll"),
        ({"output": "xml"}, "Found the output 'xml', expected one of json, inline, conll"),
        ({"n_best": -1}, "n_best is at least 0 .*, but they are -1 and 1024"),
        ({"tokens_per_batch": 0}, "tokens_per_batch at least 1, but they are 0 and 0"),
        ({"tag_encoding": "XYZ"}, "tag_encoding: Found the label encoding 'XYZ'"),
    ],
)
def test_bad_options(tagging, options, message):
    with pytest.raises(ConfigurationError, match=message):
        with_options(tagging, **options)


def test_conll_needs_its_reader(tagging):
    reader = Conll2003DatasetReader(token_indexers=tagging._dataset_reader._token_indexers)
    with pytest.raises(ConfigurationError, match="needs a model whose dataset reader is 'conll_columns'"):
        LdnetTaggerPredictor(tagging._model, reader, input="conll")


STRANGE = [
    "",
    "  \t ",
    "the\u2028list of\x00 a\x07 \x1bclass \x85 python",
    "Zyx" * 400 + " 🏳️‍🌈 \u202eabc שלום 한국어 \ud800 \ufeff",
    "{not json} <b> & </b>",
]


@pytest.mark.parametrize("output", ["json", "inline", "conll"])
def test_nothing_stops_a_run(tagging, output):
    predictor = with_options(tagging, output=output)
    found = list(predictor.predict_sentences([*STRANGE, ["", " ", "a\nb", "New York"]]))
    assert [result["words"] for result in found] == [
        *(text.split() for text in STRANGE),
        ["", " ", "a\nb", "New York"],
    ]
    lines = [predictor.dump_line(result).encode("utf-8").decode("utf-8") for result in found]
    if output == "conll":
        assert lines[0] == "\n" and lines[2].count("\n") == 6 + 1
        assert all(
            len(line.split(" ")) == 2 for text in lines for line in text.strip("\n").split("\n") if line
        )
    else:
        assert all(line.count("\n") == 1 and line.endswith("\n") for line in lines)


def test_ten_thousand_tokens(tagging):
    words = [word for sentence in random_sentences(400, seed=5, longest=60) for word in sentence][:10000]
    long, short = tagging.predict_batch_json([{"tokens": words}, {"tokens": words[:6]}])
    assert len(long["tags"]) == len(words) == 10000 and len(short["tags"]) == 6
    assert long["spans"] and all(0 < span["confidence"] <= 1 for span in long["spans"])


def test_files_of_columns(tagging, tmp_path):
    """All columns of the input and the predicted tags, in the encoding of the input; labels play no part."""
    predictor = with_options(tagging, input="conll", output="conll", tag_encoding="BIO")
    assert predictor.tag_file(str(DEV), str(tmp_path / "out.conll"), window=3) == 8
    rows = [line.split(" ") for line in (tmp_path / "out.conll").read_text().splitlines()]
    assert [row[:-1] for row in rows if row != [""]] == [
        line.split() for line in DEV.read_text().splitlines() if line
    ]
    sentences = [block.splitlines() for block in (tmp_path / "out.conll").read_text().strip().split("\n\n")]
    for lines in sentences:
        words = [line.split(" ")[0] for line in lines]
        tags = tagging.predict_json({"tokens": words})["tags"]
        expected = tags_from_spans(spans_from_tags(tags, "BIOUL"), len(tags), "BIO")
        assert [line.split(" ")[-1] for line in lines] == expected
    # Words alone, which is what there is to predict.
    (tmp_path / "words").write_text("the\nlist\n\nZork")
    assert predictor.tag_file(str(tmp_path / "words"), str(tmp_path / "out")) == 2
    assert [len(line.split()) for line in (tmp_path / "out").read_text().splitlines()] == [2, 2, 0, 2, 0]


@needs_data
def test_wnut17(tagging, tmp_path):
    path = DATA / "ner" / "wnut17" / "emerging.dev.conll"
    predictor = with_options(tagging, input="conll", output="conll", confidences=False)
    assert predictor.tag_file(str(path), str(tmp_path / "out")) == 1009
    found = (tmp_path / "out").read_bytes().decode("utf-8").split("\n")
    given = [line.split("\t") for line in path.read_bytes().decode("utf-8").split("\n") if line.strip()]
    assert [line.split(" ")[:2] for line in found if line] == given


def test_an_error_leaves_no_half_written_file(tagging, tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"sentence": "python"}\n{"sentence": "the list"}\n{"sentence"\n')
    out.write_text("from an earlier run\n")
    predictor = LdnetTaggerPredictor(tagging._model, tagging._dataset_reader.reader, input="jsonl")
    with pytest.raises(ConfigurationError, match="line 3"):
        predictor.tag_file(str(path), str(out), window=1)
    assert out.read_text() == "from an earlier run\n" and len(list(tmp_path.iterdir())) == 2
