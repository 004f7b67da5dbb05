import copy
import json
import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Token
from allennlp.interpret.saliency_interpreters import IntegratedGradient, SimpleGradient, SmoothGradient
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor
from allennlp_models.tagging.dataset_readers.conll2003 import Conll2003DatasetReader

from ldnet_allennlp.common.verification import difference
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.predictors.engines import ChosenEngine, TorchEngine
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from ldnet_runtime import Tagger
from ldnet_runtime.tag_schemes import spans_from_tags, tags_from_spans
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


def with_options(predictor, **options):
    return LdnetTaggerPredictor(predictor._model, predictor._dataset_reader.reader, **options)


def random_sentences(number, seed=0, lengths=(0, 1, 3, 8)):
    """Sentences of a few lengths only, because torch rebuilds its LSTM for each shape, which is slow."""
    generator = random.Random(seed)
    words = [word for sentence in SENTENCES for word in sentence.split()]
    words += ["Zork", "naïve", "日本", "🙂", "e\u0301"]
    return [[generator.choice(words) for _ in range(generator.choice(lengths))] for _ in range(number)]


def test_the_archives_default_predictor(predictor):
    assert isinstance(predictor, LdnetTaggerPredictor)


def test_both_engines_give_the_same(tagging):
    """All outputs of torch and of ONNX Runtime, of sentences of all lengths."""
    sentences = [words for words in random_sentences(30, seed=9) if words]
    options = {"n_best": 3, "marginals": True}
    torch_engine, onnx_engine = (with_options(tagging, engine=name, **options) for name in ("torch", "onnx"))
    assert isinstance(torch_engine._engine.current(), TorchEngine)
    assert isinstance(onnx_engine._engine.current(), Tagger)
    assert isinstance(tagging._engine.current(), Tagger)  # "auto", on a CPU
    outputs = list(torch_engine.predict_sentences(sentences))
    assert difference(outputs, list(onnx_engine.predict_sentences(sentences))) == ""
    assert len({tag for output in outputs for tag in output["tags"]}) > 8


def test_the_engine_follows_the_weights(tagging):
    """A tagger that is trained on goes on with its new weights."""
    tagger = copy.deepcopy(tagging._model)
    predictor = LdnetTaggerPredictor(tagger, tagging._dataset_reader.reader)
    before = predictor.predict(SENTENCES[2])
    with torch.no_grad():
        tagger.tag_projection_layer._module.weight.mul_(-1)
    after = predictor.predict(SENTENCES[2])
    assert after != before and predictor.predict(SENTENCES[2]) == after
    expected = with_options(predictor, engine="torch").predict(SENTENCES[2])
    assert difference([after], [expected]) == ""


def test_what_cannot_be_exported_runs_in_torch(tagging):
    class Custom(type(tagging._model.encoder)):
        pass

    model = copy.deepcopy(tagging._model)
    model.encoder.__class__ = Custom
    predictor = LdnetTaggerPredictor(model, tagging._dataset_reader.reader)
    assert isinstance(predictor._engine.current(), TorchEngine)
    with pytest.raises(ConfigurationError, match=r"The engine 'onnx' cannot run this model: .*encoder"):
        with_options(predictor, engine="onnx")


def test_a_subclass_predicts_its_own_tags(tagging):
    class OutsideTagger(LdnetTagger):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output["tags"] = [[0] * len(tags) for tags in output["tags"]]
            return output

    model = copy.deepcopy(tagging._model)
    model.__class__ = OutsideTagger
    words = SENTENCES[2].split()
    assert len(set(tagging.predict(SENTENCES[2])["tags"])) > 1
    predictor = LdnetTaggerPredictor(model, tagging._dataset_reader)
    assert predictor.predict(SENTENCES[2])["tags"] == [model.labels[0]] * len(words)
    for options in ({"n_best": 2}, {"marginals": True}):
        with pytest.raises(ConfigurationError, match="tagger', but it is OutsideTagger"):
            predictor.predict(SENTENCES[2], **options)
        with pytest.raises(ConfigurationError, match="tagger', but it is OutsideTagger"):
            LdnetTaggerPredictor(model, tagging._dataset_reader, **options)


def test_a_sentence_is_its_tokens(tagging):
    for sentence in SENTENCES:
        output = tagging.predict(f"  {sentence}\t ")
        assert set(output) == {"text", "words", "tags", "spans"}
        of_tokens = tagging.predict_json({"tokens": sentence.split()})
        for span, other in zip(output["spans"], of_tokens["spans"]):
            assert span == {**other, "start_char": other["start_char"] + 2, "end_char": other["end_char"] + 2}
        assert (output["words"], output["tags"]) == (of_tokens["words"], of_tokens["tags"])
        assert output["words"] == sentence.split() and len(output["tags"]) == len(output["words"])
        assert "text" not in of_tokens


def test_tokens_may_have_blanks_and_numbers(tagging):
    output = tagging.predict_json({"tokens": ["New York", 7]})
    assert output["words"] == ["New York", "7"]


def test_padding_is_a_word_like_any_other(tagging):
    """Its neighbors' tags stay where they are, in both engines."""
    words = ["Python", "@@PADDING@@", "list"]
    for engine in ("torch", "onnx"):
        predictor = with_options(tagging, engine=engine)
        output = predictor.predict_json({"tokens": words})
        assert output["words"] == words and len(output["tags"]) == 3
        unknown = predictor.predict_json({"tokens": ["Python", "@@UNKNOWN@@", "list"]})
        assert len(unknown["tags"]) == 3


def test_equals_the_model(tagging):
    instances = [tagging._dataset_reader.text_to_instance(sentence.split()) for sentence in SENTENCES]
    for instance in instances:
        tagging._dataset_reader.apply_token_indexers(instance)
    expected = [output["tags"] for output in tagging._model.forward_on_instances(instances)]
    outputs = tagging.predict_batch_json([{"sentence": sentence} for sentence in SENTENCES])
    assert [output["tags"] for output in outputs] == expected


def test_spans_select_their_text(tagging):
    spans = 0
    for sentence in SENTENCES:
        output = tagging.predict(f"\t{sentence}")
        for span in output["spans"]:
            assert span["text"] == " ".join(output["words"][span["start"] : span["end"]])
            assert span["text"] == output["text"][span["start_char"] : span["end_char"]]
        found = [(span["type"], span["start"], span["end"] - 1) for span in output["spans"]]
        assert found == spans_from_tags(output["tags"], "BIOUL")
        spans += len(found)
    assert spans > 3


def test_the_order_of_a_batch_and_empty_sentences(tagging):
    inputs = [{"tokens": []}, *({"tokens": s.split()} for s in SENTENCES), {"tokens": []}, {"sentence": " "}]
    outputs = tagging.predict_batch_json(inputs)
    empty = {"words": [], "tags": [], "spans": []}
    assert [outputs[0], *outputs[-2:]] == [empty, empty, {"text": " ", **empty}]
    assert difference(outputs[1:-2], [tagging.predict_json({"tokens": s.split()}) for s in SENTENCES]) == ""
    assert tagging.predict_batch_json([]) == []


def test_instances_of_a_reader(tagging):
    """Instances that a program made, with labels or without."""
    reader = tagging._dataset_reader
    instances = [reader.text_to_instance(sentence.split()) for sentence in SENTENCES]
    expected = [tagging.predict_json({"tokens": sentence.split()}) for sentence in SENTENCES]
    assert difference(tagging.predict_batch_instance(instances), expected) == ""
    assert difference([tagging.predict_instance(instance) for instance in instances], expected) == ""


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"words": "the list"}, "it has the entries words; expected a text"),
        ({}, "it has the entries none; expected a text"),
        (["the", "list"], r"the input is \['the', 'list'\]; expected an object"),
        ({"tokens": "the list"}, "the words are 'the list'; expected"),
        ({"tokens": [None]}, "word 1 is None; expected a string"),
        ({"tokens": [["a"]]}, r"word 1 is \['a'\]; expected a string"),
        ({"sentence": ["the", "list"]}, r"its 'sentence' is \['the', 'list'\]"),
    ],
)
def test_bad_input(tagging, wrong, message):
    with pytest.raises(ValueError, match=message):
        tagging.predict_json(wrong)


def test_token_objects(tagging):
    """Prodigy's tokens: their texts are the words, their places the offsets."""
    text = "the  list of"
    tokens = [
        {"text": w, "start": text.index(w), "end": text.index(w) + len(w), "id": 1} for w in text.split()
    ]
    output = tagging.predict_json({"text": text, "tokens": tokens})
    assert output["words"] == text.split() and output["text"] == text
    assert all(text[span["start_char"] : span["end_char"]] == span["text"] for span in output["spans"])


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
    output = tagging.predict(SENTENCES[0])
    assert output["spans"] == [] and len(output["tags"]) == 5


def test_labeled_instances_explain_one_span_each(tagging):
    output = tagging.predict(SENTENCES[2])
    labeled = tagging.json_to_labeled_instances({"sentence": SENTENCES[2]})
    assert len(labeled) == len(output["spans"]) > 1
    for instance, span in zip(labeled, output["spans"]):
        inside = range(span["start"], span["end"])
        expected = [tag if number in inside else "O" for number, tag in enumerate(output["tags"])]
        assert instance["tags"].labels == expected
        assert isinstance(instance["tokens"].tokens[0], Token)


@pytest.mark.parametrize("interpreter", [SimpleGradient, IntegratedGradient, SmoothGradient])
def test_saliency_interpreters(tagging, interpreter):
    torch.manual_seed(1)
    predictor = tagging
    trainable = {name: parameter.requires_grad for name, parameter in predictor._model.named_parameters()}
    saliency = interpreter(predictor).saliency_interpret_from_json({"sentence": SENTENCES[2]})
    assert len(saliency) == len(predictor.predict(SENTENCES[2])["spans"]) > 1
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
    assert set(output) == {"text", "words", "tags", "spans", "n_best", "marginals"}
    assert all("confidence" not in span for span in output["spans"])


@pytest.fixture(scope="module")
def one_by_one(tagging):
    """Sentences and what torch gives for each alone."""
    sentences = random_sentences(20)
    return sentences, list(with_options(tagging, engine="torch").predict_sentences(sentences, window=1))


@pytest.mark.parametrize(
    "engine, tokens_per_batch", [("torch", 30), ("onnx", 1), ("onnx", 30), ("onnx", 10**5)]
)
def test_batches_come_back_in_the_order_of_the_input(tagging, one_by_one, engine, tokens_per_batch):
    sentences, expected = one_by_one
    predictor = with_options(tagging, tokens_per_batch=tokens_per_batch, engine=engine)
    found = predictor.predict_batch_json([{"tokens": words} for words in sentences])
    assert difference(found, expected) == ""


def test_a_stream_of_sentences(tagging):
    sentences = random_sentences(25, seed=1)
    mixed = [words if n % 2 else {"tokens": words} for n, words in enumerate(sentences)]
    taken = []
    outputs = tagging.predict_sentences((taken.append(one) or one for one in mixed), window=10)
    first = next(outputs)
    assert len(taken) == 10  # no more than the window is read ahead
    found = [first, *outputs]
    assert difference(found, [tagging.predict_json({"tokens": words}) for words in sentences]) == ""


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_sixteen_threads_and_two_predictors_on_one_model(tagging, engine):
    """Options of one call never reach another one."""
    predictors = [
        with_options(tagging, engine=engine, n_best=2, marginals=True),
        with_options(tagging, engine=engine, confidences=False),
    ]
    sentences = [words for words in random_sentences(10, seed=3) if words]
    calls = [{"n_best": n, "confidences": c} for n in (0, 3) for c in (False, True)]
    expected = [
        [[p.predict_json({"tokens": words}, **options) for words in sentences] for options in calls]
        for p in predictors
    ]

    def work(number):
        return [
            predictors[number % 2].predict_json({"tokens": w}, **calls[number // 2 % 4]) for w in sentences
        ]

    attributes = dict(vars(tagging._model))
    with ThreadPoolExecutor(16) as pool:
        for number, found in enumerate(pool.map(work, range(24))):
            assert found == expected[number % 2][number // 2 % 4]
    assert vars(tagging._model) == attributes


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_copies(tagging, engine):
    predictor = with_options(tagging, engine=engine, n_best=1)
    expected = predictor.predict(SENTENCES[2])
    for copied in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):
        assert copied._model is not predictor._model and copied.predict(SENTENCES[2]) == expected
        assert isinstance(copied._engine, ChosenEngine)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_forked_child(tagging, engine):
    predictor = with_options(tagging, engine=engine)
    expected = predictor.predict(SENTENCES[2])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"same" if predictor.predict(SENTENCES[2]) == expected else b"different")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 9) == b"same" and os.waitpid(child, 0)[1] == 0


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


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_upstreams_tagger(language_models, engine):
    tagger = build_tagger(tagger_params(language_models, overrides={"model.type": "crf_tagger"}))
    predictor = LdnetTaggerPredictor(tagger.model, tagger.reader, n_best=2, marginals=True, engine=engine)
    outputs = predictor.predict_batch_json([{"tokens": sentence.split()} for sentence in SENTENCES])
    instances = [tagger.reader.text_to_instance(sentence.split()) for sentence in SENTENCES]
    for instance in instances:
        tagger.reader.apply_token_indexers(instance)
    tagger.model.top_k = 2
    for output, expected in zip(outputs, tagger.model.forward_on_instances(instances)):
        assert output["tags"] == expected["tags"]
        best = expected["top_k_tags"]
        assert [entry["tags"] for entry in output["n_best"]] == [entry["tags"] for entry in best]
        assert [e["score"] for e in output["n_best"]] == pytest.approx(
            [float(e["score"]) for e in best], abs=1e-3
        )
        assert len(output["marginals"]) == len(output["words"])


def test_another_tagger(language_models):
    """allennlp-models' simple_tagger tags the padding, too; in torch it has no probabilities."""
    keep = {"text_field_embedder", "encoder"}
    params = tagger_params(language_models, overrides={"model.type": "simple_tagger"}).as_dict(quiet=True)
    params["model"] = {k: v for k, v in params["model"].items() if k in keep | {"type"}}
    params["model"]["label_encoding"] = "BIOUL"
    from allennlp.common import Params

    tagger = build_tagger(Params(params))
    outputs = [
        LdnetTaggerPredictor(tagger.model, tagger.reader, engine=engine).predict_batch_json(
            [{"tokens": sentence.split()} for sentence in SENTENCES]
        )
        for engine in ("torch", "onnx")
    ]
    assert [o["tags"] for o in outputs[0]] == [o["tags"] for o in outputs[1]]
    assert all(len(output["tags"]) == len(output["words"]) for output in outputs[0])
    spans = [
        [[(span["type"], span["start"], span["end"]) for span in output["spans"]] for output in of_engine]
        for of_engine in outputs
    ]
    assert spans[0] == spans[1] and any(spans[0])
    message = "'ldnet_tagger' or 'crf_tagger', but it is SimpleTagger"
    with pytest.raises(ConfigurationError, match=message):
        LdnetTaggerPredictor(tagger.model, tagger.reader, n_best=2, engine="torch")
    of_torch, of_onnx = (
        LdnetTaggerPredictor(tagger.model, tagger.reader, engine=e) for e in ("torch", "onnx")
    )
    for options in ({"n_best": 2}, {"marginals": True}):
        with pytest.raises(ConfigurationError, match=message):
            of_torch.predict(SENTENCES[0], **options)
        output = of_onnx.predict(SENTENCES[0], **options)
        assert all(output[name] for name in options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"input": "csv"}, "The input is 'csv'; expected one of auto, text, document, jsonl, conll"),
        ({"output": "xml"}, "The output is 'xml'; expected one of json, inline, conll, html"),
        ({"n_best": -1}, "n_best at least 0, but they are 512, None and -1"),
        ({"tokens_per_batch": 0}, "tokens_per_batch and workers are at least 1"),
        ({"workers": 0}, "but they are 512, 0 and 0"),
        ({"tag_encoding": "XYZ"}, "tag_encoding: Found the label encoding 'XYZ'"),
        ({"engine": "gpu"}, "The engine is 'gpu'; expected one of auto, onnx, torch"),
        ({"autocast": "int8"}, "null, 'auto', 'bfloat16' or 'float16', not 'int8'"),
        ({"autocast": "float16"}, "it needs a GPU that computes in float16"),
    ],
)
def test_bad_options(tagging, options, message):
    with pytest.raises(ConfigurationError, match=message):
        with_options(tagging, **options)


def test_lines_of_allennlp_predict(tagging):
    """Each line speaks for itself."""
    load = tagging.load_line
    span_type = tagging._span_types[0]
    other_spellings = [f"b-{span_type.lower()}", f"B_{span_type}", f"{span_type}-B", f"{span_type}:B"]
    assert load("the new e-mail\n") == {"sentence": "the new e-mail"}
    assert load("\ufeffa b\n") == {"sentence": "a b"} and load("{python} x\n") == {"sentence": "{python} x"}
    assert load('{"text": "a"}\n') == {"text": "a"} and load('["a", "b"]\n') == {"tokens": ["a", "b"]}
    for line, message in (
        ('{"sentence": c}', "expected JSON such as .* If the file is plain text, set"),
        ('{"words": "a"}', "it has the entries words"),
        ("[\n", "A JSON array needs the option --use-dataset-reader"),
        (
            '["Ada left.", "She works."]',
            "texts, not words. A JSON array needs the option --use-dataset-reader",
        ),
        ('[{"text": "a"}, {"text": "b"}, null]', "A JSON array needs the option --use-dataset-reader"),
        ("-DOCSTART- -X- O\n", "a row of CoNLL columns: add the option --use-dataset-reader"),
        ("Ada NNP B-PER\n", "a row of CoNLL columns"),
        ("lived\tO\n", "a row of CoNLL columns"),
        ("1\tAda\tAda\tPROPN\t_\n", "a row of CoNLL columns"),
        ("Ada b-unknown\n", "a row of CoNLL columns"),
        ("fish###N swim###V\n", "a row of CoNLL columns"),
        *[(f"Ada {tag}\n", "a row of CoNLL columns") for tag in other_spellings],
    ):
        with pytest.raises(ConfigurationError, match=message):
            load(line)
    for kind in ("conll", "document"):
        with pytest.raises(ConfigurationError, match=f"'{kind}' needs the option --use-dataset-reader"):
            with_options(tagging, input=kind).load_line("a")
    assert with_options(tagging, input="text").load_line('{"text": c}') == {"sentence": '{"text": c}'}


def test_a_page_and_its_lines(tagging, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(SENTENCES))
    predictor = with_options(tagging, output="html", input="text")
    assert predictor.tag_file(tmp_path / "in.txt", str(tmp_path / "page.html")) == 3
    page = (tmp_path / "page.html").read_text()
    lines = [predictor.dump_line(output) for output in predictor.predict_sentences(SENTENCES)]
    assert page == "".join(lines) + "</body>\n</html>\n" and page.count("<!DOCTYPE") == 1


@pytest.mark.parametrize("output, target", [("standoff", "in.ann"), ("json", "in.txt")])
def test_a_file_is_never_replaced_by_its_own_tags(tagging, tmp_path, output, target):
    (tmp_path / "in.txt").write_text("\n".join(SENTENCES))
    predictor = with_options(tagging, output=output, input="text")
    with pytest.raises(ValueError, match=r"in\.txt would be replaced by its output"):
        predictor.tag_file(str(tmp_path / "in.txt"), str(tmp_path / target))
    assert (tmp_path / "in.txt").read_text() == "\n".join(SENTENCES)


def test_standoff(tagging, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(SENTENCES))
    predictor = with_options(tagging, output="standoff", input="text")
    assert predictor.tag_file(tmp_path / "in.txt", str(tmp_path / "out.ann")) == 3
    text = (tmp_path / "out.txt").read_text()
    lines = (tmp_path / "out.ann").read_text().splitlines()
    for line in lines:
        _, place, surface = line.split("\t")
        start, end = map(int, place.split()[1:])
        assert text[start:end] == surface
    assert len(lines) == sum(len(output["spans"]) for output in predictor.predict_sentences(SENTENCES)) > 3
    with pytest.raises(ConfigurationError, match="'standoff' cannot be written line by line"):
        predictor.dump_line(predictor.predict("a"))


def test_label_studio(tagging, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(SENTENCES))
    predictor = with_options(tagging, output="label_studio", input="text")
    assert predictor.tag_file(tmp_path / "in.txt", str(tmp_path / "tasks.json")) == 3
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["text"] for task in tasks] == SENTENCES
    with pytest.raises(
        ConfigurationError, match=r"'label_studio' cannot be written line by line.* ldnet-tag"
    ):
        predictor.dump_line(predictor.predict("a"))


def test_each_file_by_its_own_format(tagging, tmp_path):
    """One predictor, files of every kind, in any order; folders and globs, too."""
    sentences = ["the list of a class .", "Python is the value of Zork ."]
    files = {
        "a.conll": "".join("".join(f"{word} O\n" for word in s.split()) + "\n" for s in sentences),
        "b.jsonl": "".join(json.dumps({"tokens": s.split()}) + "\n" for s in sentences),
        "c.json": json.dumps([{"tokens": s.split()} for s in sentences], indent=1),
        "d.txt": "".join(f"{s}\n" for s in sentences),
    }
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_text(content)
    predictor = with_options(tagging)
    expected = [predictor.predict_json({"tokens": s.split()})["tags"] for s in sentences]
    out = tmp_path / "out"
    for name in [*files, *reversed(files)]:
        assert predictor.tag_file(str(tmp_path / "in" / name), str(out)) == 2, name
        assert [json.loads(line)["tags"] for line in out.read_text().splitlines()] == expected, name
    for source in (tmp_path / "in", str(tmp_path / "in" / "*"), [tmp_path / "in" / name for name in files]):
        assert predictor.tag_file(source, str(out)) == 8
        assert [json.loads(line)["tags"] for line in out.read_text().splitlines()] == expected * 4
    document = with_options(tagging, input="document")
    assert document.tag_file(tmp_path / "in" / "d.txt", str(out)) == 1
    output = json.loads(out.read_text())
    assert output["tags"] == expected[0] + expected[1] and output["text"] == files["d.txt"]
    assert all(output["text"][s["start_char"] : s["end_char"]] == s["text"] for s in output["spans"])


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
    assert [result["words"] for result in found][-1] == ["", " ", "a\nb", "New York"]
    for text, result in zip(STRANGE, found):
        assert result["text"] == text and all(word in text for word in result["words"])
    lines = [predictor.dump_line(result).encode("utf-8").decode("utf-8") for result in found]
    assert all(line.endswith("\n") for line in lines)
    if output == "conll":
        rows = [line.split(" ") for text in lines for line in text.split("\n") if line]
        assert {len(row) for row in rows} == {2}
    if output == "json":
        assert [json.loads(line) for line in lines] == found


def test_ten_thousand_tokens(tagging):
    words = [word for sentence in random_sentences(400, seed=5, lengths=(60,)) for word in sentence][:10000]
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
