"""
Our parts in other people's models: every config of training_config/compose/, small, is trained until it knows its
training data by heart; then its archive says what it has learnt.
"""

import json
import re

import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.data import Batch, DatasetReader
from allennlp.models.archival import load_archive
from allennlp.modules.seq2seq_encoders import ComposeEncoder, PassThroughEncoder
from allennlp.predictors import Predictor

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.data import ConllColumnsReader
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.compositions import CONFIGS, FOLDER, SETTINGS, UD, Workshop, load, predict, sentences_of
from tests.taggers import DEV, TRAIN, ldnet_embedder, set_gates


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("compositions"))


def test_every_config_is_tested():
    assert set(CONFIGS) == set(SETTINGS)


SCORES = {
    "pos_char_lstm": "accuracy",
    "bilstm_crf": "f1-measure-overall",
    "classifier": "accuracy",
    "biaffine_parser": "LAS",
    "transformer": "f1-measure-overall",
    "crf_tagger": "f1-measure-overall",
    "upstream_reader": "f1-measure-overall",
}


@pytest.mark.parametrize("name", SCORES)
def test_learns_and_its_archive_scores_the_same(workshop, name):
    metrics = json.loads((workshop.run(name) / "metrics.json").read_text())
    score = metrics[f"best_validation_{SCORES[name]}"]
    assert score > 0.9
    settings = workshop.settings(name)
    found = evaluate_from_archive(workshop.archive(name), settings["train"])
    assert found[SCORES[name]] == pytest.approx(score, abs=1e-6)


def test_our_predictor_serves_an_upstream_pos_tagger(workshop):
    """Whose own predictor wants a spaCy model."""
    reader = ConllColumnsReader(layout="conllu", label_encoding=None)
    metadata = [instance["metadata"] for instance in reader.read(str(UD["train"]))]
    predictor = Predictor.from_path(workshop.archive("pos_char_lstm"), "ldnet_tagger")
    outputs = [predictor.predict(" ".join(sentence["words"])) for sentence in metadata]
    for output, sentence in zip(outputs, metadata):
        assert output["words"] == sentence["words"] and len(output["tags"]) == len(output["words"])
    tags = [tag for output in outputs for tag in output["tags"]]
    gold = [tag for sentence in metadata for tag in sentence["gold_tags"]]
    assert sum(map(str.__eq__, tags, gold)) > 0.9 * len(gold)


def test_our_predictor_serves_an_upstream_crf_tagger(workshop):
    """With spans, and with the words of the language models that are gone."""
    sentences = [tuple(zip(*rows)) for rows in sentences_of(TRAIN)]
    outputs = predict(
        workshop.archive("crf_tagger"), [{"tokens": list(words)} for words, _ in sentences], "ldnet_tagger"
    )
    correct = 0
    for output, (words, tags) in zip(outputs, sentences):
        assert output["words"] == list(words) and len(output["tags"]) == len(words)
        found = {(span["type"], span["start"], span["end"]) for span in output["spans"]}
        correct += found == {(kind, start, end + 1) for kind, start, end in spans_from_tags(tags, "BIO")}
    assert correct > 0.8 * len(sentences)


def test_the_perceptron_learns_too(workshop):
    folder = workshop.run("bilstm_crf", "perceptron", loss="structured_perceptron")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["best_validation_f1-measure-overall"] > 0.8
    assert load_archive(str(folder / "model.tar.gz")).config["model"]["loss"] == "structured_perceptron"


@pytest.mark.slow
def test_translates(workshop):
    """Most of the lemmas it was trained on, and gives something for a character it has not seen."""
    pairs = [line.split("\t") for line in (workshop.data / "lemmas.train.tsv").read_text().splitlines()]
    outputs = predict(workshop.archive("seq2seq"), [{"source": source} for source, _ in pairs])
    correct = [output["predicted_tokens"] == target.split() for output, (_, target) in zip(outputs, pairs)]
    assert sum(correct) > 0.8 * len(pairs)
    changed = [ok for ok, (source, target) in zip(correct, pairs) if source.split()[1:] != target.split()]
    assert sum(changed) > 0.6 * len(changed)
    (unseen,) = predict(workshop.archive("seq2seq"), [{"source": "NOUN ж ж"}])
    assert len(unseen["predictions"]) == 2  # the beam


@pytest.mark.parametrize("encoder", ["ld_rnn", "pass_through"])
def test_classifies(workshop, encoder):
    lines = [json.loads(line) for line in (workshop.data / "genres.train.jsonl").read_text().splitlines()]
    archive = workshop.archive("classifier", "" if encoder == "ld_rnn" else encoder, encoder=encoder)
    outputs = predict(archive, [{"sentence": line["text"]} for line in lines])
    assert [output["label"] for output in outputs] == [line["label"] for line in lines]
    encoders = load_archive(archive).model._seq2seq_encoder.encoders
    assert isinstance(encoders[0], LdRnn if encoder == "ld_rnn" else PassThroughEncoder)


def test_parses(workshop):
    """The trees it was trained on."""
    archive = load_archive(workshop.archive("biaffine_parser"))
    instances = list(archive.dataset_reader.read(str(UD["train"])))
    outputs = archive.model.forward_on_instances(instances)
    rows = [[row for row in rows if row[0].isdigit()] for rows in sentences_of(UD["train"])]
    heads = [[int(row[6]) for row in sentence] for sentence in rows]
    labels = [[row[7] for row in sentence] for sentence in rows]
    assert sum(output["predicted_heads"] == tree for output, tree in zip(outputs, heads)) >= len(heads) - 1
    assert sum(output["predicted_dependencies"] == names for output, names in zip(outputs, labels)) >= 6


def test_inside_compose_and_pass_through():
    """The wrappers change nothing: neither the real steps nor the padded ones."""
    torch.manual_seed(3)
    inputs, mask = torch.randn(3, 5, 4), torch.arange(5).unsqueeze(0) < torch.tensor([[5], [2], [1]])
    first, second = LdRnn(4, 3, 2), LdRnn(10, 2, 1)
    composed = ComposeEncoder([PassThroughEncoder(4), first, PassThroughEncoder(10), second])
    assert (composed.get_input_dim(), composed.get_output_dim()) == (4, 12)
    torch.testing.assert_close(composed(inputs, mask), second(first(inputs, mask), mask), rtol=0, atol=0)
    both = ComposeEncoder([LdRnn(4, 3, 2, bidirectional=True), LdRnn(20, 2, 1, bidirectional=True)])
    assert both.is_bidirectional() and both(inputs, mask).shape == (3, 5, both.get_output_dim())
    # Padding is worth nothing to the layers above.
    torch.testing.assert_close(both(inputs[1:2, :2], mask[1:2, :2]), both(inputs, mask)[1:2, :2])
    assert sum(p.numel() for p in composed.parameters()) == sum(
        p.numel() for encoder in (first, second) for p in encoder.parameters()
    )


def test_beside_a_transformer(workshop):
    """Both are read, the transformer is trained, and the archive needs its folder and no language model."""
    archive = workshop.archive("transformer")
    assert not (workshop.folder / "language_models").exists()
    model = load_archive(archive).model
    embedder = model.text_field_embedder
    assert embedder.get_output_dim() == 32 + 8 == model.encoder.get_input_dim()
    from transformers import BertModel

    before = BertModel.from_pretrained(str(workshop.folder / "bert")).state_dict()
    name = "encoder.layer.1.attention.self.query.weight"
    after = embedder.token_embedder_transformer._matched_embedder.transformer_model.state_dict()
    assert not torch.equal(before[name], after[name])
    # A word that is longer than the transformer's window, characters without a word piece, one word.
    sentences = [["Python", "x" * 90, "Zork"], ["\u4f60\u597d"], ["list"] * 40]
    outputs = predict(archive, [{"tokens": words} for words in sentences])
    assert [len(output["tags"]) for output in outputs] == [3, 1, 40]
    # Neither half is idle: without the one or the other, the scores are different.
    for part in ("ldnet", "transformer"):
        changed = load_archive(archive).model
        for parameter in getattr(changed.text_field_embedder, f"token_embedder_{part}").parameters():
            parameter.data.zero_()
        reader = load_archive(archive).dataset_reader
        instance = reader.text_to_instance(sentences[2])
        reader.apply_token_indexers(instance)
        logits = []
        for tagger in (model, changed):
            tagger.return_logits = True
            logits.append(torch.as_tensor(tagger.forward_on_instance(instance)["logits"]))
        assert not torch.allclose(*logits, atol=1e-3), part


def test_our_tagger_takes_over_an_upstream_one(workshop):
    """`crf_tagger` and `ldnet_tagger` have the same parameters, tags and scores; only the loss is scaled otherwise."""
    path = workshop.archive("crf_tagger")
    archives = [load_archive(path), load_archive(path, overrides={"model.type": "ldnet_tagger"})]
    upstream, ours = (archive.model.eval() for archive in archives)
    assert set(upstream.state_dict()) == set(ours.state_dict())
    instances = list(archives[0].dataset_reader.read(str(DEV)))
    tags = [
        [output["tags"] for output in model.forward_on_instances(instances)] for model in (upstream, ours)
    ]
    assert tags[0] == tags[1]
    batch = Batch(instances)
    batch.index_instances(upstream.vocab)
    losses = [model(**batch.as_tensor_dict())["loss"].item() for model in (upstream, ours)]
    assert losses[0] / len(instances) == pytest.approx(losses[1], rel=1e-5)


def test_layers_of_an_upstream_tagger_are_cut_out(workshop, tmp_path):
    """A sentence gets the same tags from the pruned archive, and a corpus the same score."""
    archive = load_archive(workshop.archive("crf_tagger"))
    set_gates(ldnet_embedder(archive.model), [0.6, 0.0, 0.0, 1.0, 0.0, 0.9, 0.0, 0.0])
    source, target = str(tmp_path / "gated.tar.gz"), str(tmp_path / "pruned.tar.gz")
    write_archive(source, archive.model, archive.config.as_dict(quiet=True))
    report = prune_archive(source, target)
    assert "same tags" in report[2]
    assert ldnet_embedder(load_archive(target).model).all_layers() == {"forward": [0, 3], "backward": [1]}
    sentences = [{"sentence": "the list of Zork"}, {"sentence": "Python"}]
    before, after = (predict(path, sentences, "ldnet_tagger") for path in (source, target))
    assert [output["tags"] for output in before] == [output["tags"] for output in after]
    scores = [evaluate_from_archive(path, str(DEV)) for path in (source, target)]
    assert scores[1]["f1-measure-overall"] == scores[0]["f1-measure-overall"]
    assert scores[1]["loss"] == pytest.approx(scores[0]["loss"], rel=1e-5)


def test_with_the_sequence_tagging_reader(workshop):
    """Which knows no span encoding: `label_encoding` is null, and accuracy chooses the best epoch."""
    path = workshop.folder / "tags.txt"
    sentences = sentences_of(TRAIN)
    lines = [" ".join(f"{word}###{tag}" for word, tag in sentence) for sentence in sentences]
    path.write_text("".join(f"{line}\n" for line in lines))
    archive = workshop.archive(
        "upstream_reader",
        "sequence_tagging",
        train=str(path),
        dev=str(path),
        reader={"type": "sequence_tagging"},
        label_encoding=None,
    )
    metrics = json.loads((workshop.folder / "sequence_tagging" / "metrics.json").read_text())
    assert metrics["best_validation_accuracy"] > 0.9 and "best_validation_f1-measure-overall" not in metrics
    outputs = predict(archive, [{"tokens": [word for word, _ in sentence]} for sentence in sentences])
    found = [tag for output in outputs for tag in output["tags"]]
    gold = [tag for sentence in sentences for _, tag in sentence]
    accuracy = sum(map(str.__eq__, found, gold)) / len(gold)
    assert accuracy == pytest.approx(metrics["best_validation_accuracy"], abs=1e-6)


def test_without_validation_the_last_epoch_is_archived(workshop):
    archive = workshop.archive("upstream_reader", "no_dev", dev=None, num_epochs=3)
    metrics = json.loads((workshop.folder / "no_dev" / "metrics.json").read_text())
    assert metrics["epoch"] == 2 and not any("validation" in name for name in metrics)
    last = torch.load(str(workshop.folder / "no_dev" / "best.th"))
    for name, weights in load_archive(archive).model.state_dict().items():
        assert torch.equal(last[name], weights), name


def test_our_tagger_and_upstream_readers_agree_on_the_data(workshop):
    """`conll2003` and `conll_columns` make the same words and BIOUL tags of the same file."""
    path = workshop.settings("upstream_reader")["train"]
    upstream = DatasetReader.by_name("conll2003")(convert_to_coding_scheme="BIOUL")
    ours = ConllColumnsReader(label_encoding="IOB1", target_label_encoding="BIOUL")
    for first, second in zip(*(list(reader.read(path)) for reader in (upstream, ours))):
        assert first["metadata"]["words"] == second["metadata"]["words"]
        assert list(first["tags"].labels) == list(second["tags"].labels)


def test_the_data_that_is_made(workshop):
    """No multiword range, no empty node, no punctuation, nothing twice, and in dev nothing of train."""
    assert workshop.counts["train.conllu"] == 8 and workshop.counts["dev.conllu"] == 3
    train, dev = (
        [tuple(line.split("\t")) for line in (workshop.data / f"lemmas.{split}.tsv").read_text().splitlines()]
        for split in ("train", "dev")
    )
    assert train[:3] == [("PRON i", "i"), ("VERB s e n t", "s e n d"), ("DET t h e", "t h e")]
    assert ("AUX d o", "d o") in train and ("VERB l i k e d", "l i k e") in train
    words = {source.partition(" ")[2].replace(" ", "") for source, _ in train}
    assert not words & {"don't", "n't", "three", ".", "!"}
    assert len(set(train)) == len(train) == workshop.counts["lemmas.train.tsv"]
    assert dev == [
        ("NOUN p o n d s", "p o n d"),
        ("ADJ e a r l y", "e a r l y"),
        ("NOUN s o u p s", "s o u p"),
    ]
    genres = [json.loads(line) for line in (workshop.data / "genres.dev.jsonl").read_text().splitlines()]
    assert genres[0] == {"text": "I called Ada yesterday .", "label": "email"}
    assert [line["label"] for line in genres] == ["email", "weblog", "reviews"]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_defaults_are_a_config_and_a_misspelled_setting_is_named(name):
    params = load(name, {}).as_dict(quiet=True)
    assert params["model"]["type"] and params["evaluate_on_test"]
    with pytest.raises(
        RuntimeError, match=r"LDNET_SETTINGS has num_epoch, but this config has only .*num_epochs"
    ):
        load(name, {"num_epoch": 3})


def test_an_unknown_encoder_is_named():
    with pytest.raises(RuntimeError, match="encoder is gru, expected one of ld_rnn, pass_through"):
        load("classifier", {"encoder": "gru"})


@pytest.mark.parametrize("name", CONFIGS)
def test_the_header_says_how_it_is_run_and_what_it_reached(name):
    """The command's settings are known ones, and the score and the hardware are there."""
    text = (FOLDER / f"{name}.jsonnet").read_text()
    header = "\n".join(line[2:] for line in text.split("\nlocal ")[0].splitlines())
    assert f"allennlp train training_config/compose/{name}.jsonnet" in header
    assert "Hardware: " in header and re.search(r"Score: .*\d", header, re.DOTALL)
    for given in re.findall(r"LDNET_SETTINGS='(\{.*?\})' ", header, re.DOTALL):
        load(name, json.loads(given))
