"""Encodings of reader and model, labels that are no tags, partial labels, and new labels."""

import json
import math

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.models.archival import load_archive

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.models.tagger_crf import check_letters
from ldnet_runtime.tag_schemes import tags_from_spans
from tests.modules.crf.oracle import enumerate_paths

SPANS = [
    (["Ada", "Lovelace", "met", "Paris"], [("PER", 0, 1), ("LOC", 3, 3)]),
    (["Paris", "fell"], [("LOC", 0, 0)]),
]


def write_corpus(path, encoding, spans=SPANS):
    lines = []
    for words, spans_of in spans:
        tags = tags_from_spans(spans_of, len(words), encoding)
        lines += [f"{word} {tag}\n" for word, tag in zip(words, tags)] + ["\n"]
    path.write_text("".join(lines))
    return str(path)


def tagger_config(**model):
    return {
        "type": "ldnet_tagger",
        "text_field_embedder": {"token_embedders": {"tokens": {"type": "embedding", "embedding_dim": 6}}},
        "encoder": {"type": "lstm", "input_size": 6, "hidden_size": 4, "bidirectional": True},
        **model,
    }


def build(reader, path, seed=1, **model):
    from allennlp.common import Params

    instances = list(reader.read(path))
    for instance in instances:
        reader.apply_token_indexers(instance)
    vocab = Vocabulary.from_instances(instances)
    torch.manual_seed(seed)
    built = Model.from_params(Params(tagger_config(**model)), vocab=vocab)
    batch = Batch(instances)
    batch.index_instances(vocab)
    return built.eval(), batch.as_tensor_dict()


ENCODINGS = ["BIO", "IOB1", "BIOUL", "IOBES", "BMES"]


@pytest.mark.parametrize("of_model", ENCODINGS)
@pytest.mark.parametrize("of_reader", ENCODINGS)
def test_encodings_of_reader_and_model(tmp_path, of_reader, of_model):
    """Equal ones train, all others are refused, in the constructor or with the first batch."""
    path = write_corpus(tmp_path / "train.conll", of_reader)
    reader = ConllColumnsReader(label_encoding=of_reader, target_label_encoding=of_reader)
    if of_reader == of_model:
        model, batch = build(reader, path, label_encoding=of_model)
        assert math.isfinite(model(**batch)["loss"].item())
        return
    with pytest.raises(ConfigurationError, match="target_label_encoding"):
        model, batch = build(reader, path, label_encoding=of_model)
        model(**batch)
    model, batch = build(reader, path, label_encoding=of_model, constrain_crf_decoding=False)
    assert math.isfinite(model(**batch)["loss"].item())  # without constraints all are read alike


@pytest.mark.parametrize(
    "labels, encoding",
    [
        (["O"], "BIOUL"),
        (["O", "U-X"], "BIOUL"),
        (["O", "L-X", "B-X"], "BIOUL"),
        (["O", "S-X"], "IOBES"),
        (["O", "B-X"], "BIO"),
        (["O", "I-X"], "IOB1"),
        (["B", "M", "E", "S"], "BMES"),
        (["O", "S-X"], "BMES"),
        (["NOUN", "VERB"], "BIO"),
    ],
)
def test_vocabularies_that_lack_tags_pass(labels, encoding):
    check_letters(labels, encoding)


@pytest.mark.parametrize(
    "labels, encoding, message",
    [
        (["O", "B-X", "I-X"], "BIOUL", "no letter but B, I"),
        (["O", "B-X", "I-X"], "BMES", "I"),
        (["O", "S-X"], "BIOUL", "the letters S"),
        (["O", "U-X"], "IOBES", "the letters U"),
        (["O", "U-X", "B-X"], "BIO", "the letters U"),
        (["O", "I-X"], "BIO", "no letter but I"),
    ],
)
def test_vocabularies_of_another_encoding_are_refused(labels, encoding, message):
    with pytest.raises(ConfigurationError, match=message):
        check_letters(labels, encoding)


def test_bmes_can_predict_o(tmp_path):
    path = write_corpus(tmp_path / "train.conll", "BMES")
    reader = ConllColumnsReader(label_encoding="BMES", target_label_encoding="BMES")
    model, batch = build(reader, path, label_encoding="BMES")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch)["loss"].backward()
        optimizer.step()
    model.get_metrics(reset=True)
    output = model.make_output_human_readable(model(**batch))
    assert output["tags"] == [["B-PER", "E-PER", "O", "S-LOC"], ["S-LOC", "O"]]
    assert model.get_metrics()["f1-measure-overall"] == 1.0


def test_padding_labels_are_never_predicted(tmp_path):
    path = write_corpus(tmp_path / "train.conll", "BIO")
    reader = ConllColumnsReader(label_namespace="genre")
    model, batch = build(
        reader, path, label_namespace="genre", return_confidences=True, label_encoding="BIO", top_k=3
    )
    assert model.labels[:2] == ["@@PADDING@@", "@@UNKNOWN@@"]
    with torch.no_grad():
        model.tag_projection_layer._module.bias[:2] = 50.0
    output = model(**batch)
    assert all(tag > 1 for paths in output["top_k_tags"] for tags, _ in paths for tag in tags)
    assert all(sum(row) <= 1.0 + 1e-9 for row in output["top_k_probabilities"])
    model, batch = build(ConllColumnsReader(label_namespace="genre"), path, label_namespace="genre")
    with torch.no_grad():
        model.tag_projection_layer._module.bias[:2] = 50.0
    assert all(tag > 1 for tags in model(**batch)["tags"] for tag in tags)


def test_an_end_token_without_boundary_tags_is_refused(tmp_path):
    path = write_corpus(tmp_path / "train.conll", "BIO", [(["Paris"], [("LOC", 0, 0)]), (["fell"], [])])
    model, batch = build(ConllColumnsReader(end_token="<eof>"), path)
    with pytest.raises(ConfigurationError, match=r"end_token.*boundary_tags"):
        model(**batch)


def test_a_word_with_the_id_of_padding_is_refused(tmp_path):
    model, batch = build(ConllColumnsReader(), write_corpus(tmp_path / "train.conll", "BIO"))
    batch["tokens"]["tokens"]["tokens"][0, 1] = 0
    with pytest.raises(ConfigurationError, match="id of padding"):
        model(**batch)
    reader = ConllColumnsReader()
    instance = reader.text_to_instance(["Anna", "@@PADDING@@", "Moscow"])
    reader.apply_token_indexers(instance)
    assert len(model.forward_on_instance(instance)["tags"]) == 3


def test_a_label_that_only_the_training_data_have_is_an_error(tmp_path):
    reader = ConllColumnsReader()
    model, _ = build(reader, write_corpus(tmp_path / "train.conll", "BIO"))
    other = write_corpus(tmp_path / "other.conll", "BIO", [(["Paris", "fell"], [("GPE", 0, 0)])])
    instances = list(reader.read(other))
    for instance in instances:
        reader.apply_token_indexers(instance)
    batch = Batch(instances)
    batch.index_instances(model.vocab)
    assert math.isfinite(model(**batch.as_tensor_dict())["loss"].item())
    with pytest.raises(ConfigurationError, match="'B-GPE', which the vocabulary lacks"):
        model.train()(**batch.as_tensor_dict())


class TestPartialLabels:
    TEXT = "Ada B-PER\nLovelace ?\nmet B-LOC|O\n\nParis B-LOC\nfell ?\n\nAda B-PER\nfell O\n\nit ?\n\n"

    def build(self, tmp_path, text, **model):
        path = tmp_path / "partial.conll"
        path.write_text(text)
        reader = ConllColumnsReader(label_encoding="BIO", partial_label="?")
        return build(reader, str(path), label_encoding="BIO", **model)

    def test_loss_equals_the_enumeration(self, tmp_path):
        model, batch = self.build(tmp_path, self.TEXT)
        assert set(model.labels) == {"B-PER", "B-LOC", "O"}
        emissions, mask = model.score(batch["tokens"])
        expected = 0.0
        for row, kept, allowed in zip(emissions, mask, batch["allowed_tags"]):
            sentence = enumerate_paths(model.crf, row, kept)
            matches = [all(allowed[step, tag] for step, tag in enumerate(path)) for path in sentence.paths]
            expected = expected + sentence.log_partition
            expected = expected - torch.logsumexp(sentence.scores[torch.tensor(matches)], 0)
        loss = model(**batch)["loss"]
        torch.testing.assert_close(loss, expected.float() / 4)
        parameters = [p for p in model.parameters() if p.requires_grad]
        ours = torch.autograd.grad(loss, parameters)
        for gradient, oracle in zip(ours, torch.autograd.grad(expected / 4, parameters)):
            torch.testing.assert_close(gradient, oracle.to(gradient), atol=1e-6, rtol=1e-4)

    def test_full_labels_give_the_loss_without_partial_labels(self, tmp_path):
        path = write_corpus(tmp_path / "full.conll", "BIO")
        plain, batch = build(ConllColumnsReader(label_encoding="BIO"), path, label_encoding="BIO")
        partial, same = self.build(tmp_path, (tmp_path / "full.conll").read_text())
        assert "allowed_tags" in same and torch.equal(plain(**batch)["loss"], partial(**same)["loss"])
        # One unknown word elsewhere takes the other way; the rest of the loss is the same to rounding.
        added, more = self.build(tmp_path, (tmp_path / "full.conll").read_text() + "it ?\n\n")
        emissions, mask = added.score(more["tokens"])
        rest = -added.crf(emissions[:2], more["tags"][:2].clamp(min=0), mask[:2])
        torch.testing.assert_close(added(**more)["loss"] * 3, rest, rtol=1e-5, atol=1e-5)

    def test_boundary_tags(self, tmp_path):
        path = tmp_path / "partial.conll"
        path.write_text(self.TEXT + "x <s>\ny <eof>\n\n")
        reader = ConllColumnsReader(label_encoding=None, partial_label="?", end_token="<eof>")
        model, batch = build(reader, str(path), boundary_tags=["<s>", "<eof>"])
        emissions, mask = model.score(batch["tokens"])
        start, end = model.crf.scores()[1:]
        expected = 0.0
        for row, kept, allowed in zip(emissions, mask, batch["allowed_tags"]):
            sentence = enumerate_paths(model.crf, row, kept)  # without start and end
            scores = torch.stack(
                [s + start[p[0]] + end[p[-1]] for p, s in zip(sentence.paths, sentence.scores)]
            )
            matches = [all(allowed[step, tag] for step, tag in enumerate(path)) for path in sentence.paths]
            expected = (
                expected + torch.logsumexp(scores, 0) - torch.logsumexp(scores[torch.tensor(matches)], 0)
            )
        torch.testing.assert_close(model(**batch)["loss"], expected.float() / 5)

    def test_scores_leave_partial_labels_out(self, tmp_path):
        model, batch = self.build(tmp_path, self.TEXT)
        tags = model(**batch)["tags"]
        full = [(0, 0), (1, 0), (2, 0), (2, 1)]  # sentence, word
        right = sum(tags[row][step] == batch["tags"][row, step] for row, step in full)
        metrics = model.get_metrics()
        assert metrics["accuracy"] == pytest.approx(int(right) / 4) and "unseen_labels" not in metrics
        spans = model._scores._span_f1
        assert sum(spans._true_positives.values()) + sum(spans._false_negatives.values()) == 1

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"label_weights": {"O": 0.5}}, "without label_weights"),
            ({"loss": "structured_perceptron"}, "need the loss 'negative_log_likelihood'"),
            ({"loss": "softmax"}, "need the loss 'negative_log_likelihood'"),
        ],
    )
    def test_what_excludes_them(self, tmp_path, options, message):
        model, batch = self.build(tmp_path, self.TEXT, **options)
        with pytest.raises(ConfigurationError, match=message):
            model(**batch)


class TestContinuing:
    """New words, characters and labels."""

    NEW = (*SPANS, (["Zürich", "qux"], [("GPE", 0, 0)]), (["Ada", "ran"], [("PER", 0, 0)]))

    def config(self, path, **changes):
        return {
            "dataset_reader": {
                "type": "conll_columns",
                "token_indexers": {
                    "tokens": {"type": "single_id"},
                    "token_characters": {"type": "characters", "min_padding_length": 1},
                },
            },
            "train_data_path": path,
            "model": {
                **tagger_config(label_encoding="BIO"),
                "text_field_embedder": {
                    "token_embedders": {
                        "tokens": {"type": "embedding", "embedding_dim": 6},
                        "token_characters": {
                            "type": "sentence_character_lstm",
                            "embedding_dim": 3,
                            "hidden_size": 4,
                        },
                    }
                },
                "encoder": {"type": "lstm", "input_size": 14, "hidden_size": 4, "bidirectional": True},
            },
            "data_loader": {"batch_size": 4},
            "trainer": {"optimizer": {"type": "adam", "lr": 0.05}, "num_epochs": 30},
            **changes,
        }

    @pytest.fixture(scope="class")
    def first(self, tmp_path_factory):
        from allennlp.common import Params

        folder = tmp_path_factory.mktemp("first")
        path = write_corpus(folder / "train.conll", "BIO")
        train_model(Params(self.config(path)), str(folder / "run"))
        return str(folder / "run" / "model.tar.gz")

    def test_initializer(self, first, tmp_path):
        from allennlp.common import Params

        path = write_corpus(tmp_path / "new.conll", "BIO", self.NEW)
        old = load_archive(first).model
        config = self.config(path, vocabulary={"type": "extend", "directory": first})
        config["trainer"]["num_epochs"] = 40
        config["model"]["initializer"] = {
            "regexes": [[".*", {"type": "continue_from", "archive_file": first}]]
        }
        # As built, before the first step.
        reader = DatasetReader.from_params(Params(json.loads(json.dumps(config["dataset_reader"]))))
        instances = list(reader.read(path))
        for instance in instances:
            reader.apply_token_indexers(instance)
        vocab = Vocabulary.from_files_and_instances(instances, first)
        model = Model.from_params(Params(json.loads(json.dumps(config["model"]))), vocab=vocab)
        assert model.num_tags == old.num_tags + 1
        for label in old.labels:
            new_id, old_id = model.labels.index(label), old.labels.index(label)
            layers = model.tag_projection_layer._module, old.tag_projection_layer._module
            assert torch.equal(layers[0].weight[new_id], layers[1].weight[old_id])
            for other in old.labels:
                pair = model.crf.transitions[new_id, model.labels.index(other)]
                assert torch.equal(pair, old.crf.transitions[old_id, old.labels.index(other)])
        known = ["Ada", "Lovelace", "met", "Paris"]
        before, after = (
            m.forward_on_instance(self.indexed(reader, known)) for m in (old.eval(), model.eval())
        )
        assert before["tags"] == after["tags"]
        # An archive like any other, which does not need the first one.
        train_model(Params(config), str(tmp_path / "run"))
        archive = load_archive(str(tmp_path / "run" / "model.tar.gz"))
        assert type(archive.model) is LdnetTagger
        instance = self.indexed(archive.dataset_reader, ["Zürich", "qux"])
        assert archive.model.eval().forward_on_instance(instance)["tags"] == ["B-GPE", "O"]

    def test_from_archive(self, first, tmp_path):
        """AllenNLP's own way."""
        from allennlp.common import Params

        path = write_corpus(tmp_path / "new.conll", "BIO", self.NEW)
        config = self.config(path, vocabulary={"type": "extend", "directory": first})
        config["model"] = {"type": "from_archive", "archive_file": first}
        model = train_model(Params(config), str(tmp_path / "run")).eval()
        assert "B-GPE" in model.labels and len(model.labels) == model.num_tags
        archive = load_archive(str(tmp_path / "run" / "model.tar.gz"))
        instance = self.indexed(archive.dataset_reader, ["Zürich", "qux"])
        assert archive.model.eval().forward_on_instance(instance)["tags"] == ["B-GPE", "O"]

    def test_new_labels_have_no_transitions_with_softmax(self, tmp_path):
        path = write_corpus(tmp_path / "train.conll", "BIO")
        model, _ = build(ConllColumnsReader(), path, label_encoding="BIO", loss="softmax")
        model.vocab.add_tokens_to_namespace(["B-GPE", "I-GPE"], "labels")
        model.extend_embedder_vocab()
        crf = model.crf
        assert crf.num_tags == model.tag_projection_layer._module.out_features == len(model.labels)
        for scores in (crf.transitions, crf.start_transitions, crf.end_transitions):
            assert not scores.any() and not scores.requires_grad

    @staticmethod
    def indexed(reader, words):
        instance = reader.text_to_instance(words)
        reader.apply_token_indexers(instance)
        return instance
