import copy
import logging
import pickle
import sqlite3
from contextlib import closing

import numpy
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.common.layer_cache import LayerCache, cached_evaluation, fingerprint
from ldnet_allennlp.common.vector_store import VectorStore
from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.embedders.language_model_source import LanguageModelSource
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from tests.builders import language_model_archive
from tests.resources import needs_bfloat16
from tests.taggers import build_language_models, ldnet_embedder, set_gates, tagger_params

IDS = torch.tensor([[3, 4, 5, 6, 2], [7, 0, 0, 0, 0], [3, 4, 0, 0, 0], [0, 0, 0, 0, 0], [7, 0, 0, 0, 0]])
OTHER_IDS = torch.tensor([[3, 4, 0], [9, 8, 7]])


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    names = ("forward", "backward", "bidirectional")
    return {name: language_model_archive(folder / name, name, seed=seed) for seed, name in enumerate(names)}


def build(archives, names=("forward", "backward"), **options):
    torch.manual_seed(3)
    sources = {name: LanguageModelSource(pretrained_file=archives[name]) for name in names}
    return LdnetEmbedder(Vocabulary(), **sources, **options)


@pytest.fixture
def runs(monkeypatch):
    """The shapes of the ids that language models have read."""
    shapes = []
    forward = FrozenLanguageModel.forward

    def counting(self, token_ids, mask):
        shapes.append(tuple(token_ids.shape))
        return forward(self, token_ids, mask)

    monkeypatch.setattr(FrozenLanguageModel, "forward", counting)
    return shapes


def folders(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").iterdir())


def stored_rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return [rows for (rows,) in connection.execute("SELECT rows FROM vectors")]


class TestVectors:
    @pytest.mark.parametrize("names", [("forward", "backward"), ("bidirectional",)])
    def test_same_as_computed_and_computed_once(self, archives, names, tmp_path, runs):
        expected = [build(archives, names)(ids) for ids in (IDS, OTHER_IDS)]
        runs.clear()
        for _ in range(2):  # two trainings
            embedder = build(archives, names, cache=str(tmp_path / "cache")).train()
            for _ in range(2):  # two epochs
                for ids, vectors in zip((IDS, OTHER_IDS), expected):
                    torch.testing.assert_close(embedder(ids), vectors, rtol=0, atol=1e-6)
        # Once each: of the first batch the three sentences that differ, of the second the one that is new.
        assert runs == [(3, 5)] * len(names) + [(1, 3)] * len(names)

    def test_arrays_of_another_length_are_computed_again(self, archives, tmp_path):
        embedder = build(archives, cache=str(tmp_path / "cache")).train()
        expected = embedder(IDS)
        for name in folders(tmp_path):
            with closing(sqlite3.connect(tmp_path / "cache" / name)) as connection, connection:
                ((size,),) = connection.execute("SELECT MIN(LENGTH(rows)) FROM vectors")
                columns = size // min(len(row.nonzero()) for row in IDS if row.any())
                connection.execute("UPDATE vectors SET rows = SUBSTR(rows, 1, ?)", (columns,))  # one word
        torch.testing.assert_close(embedder(IDS), expected)

    def test_half_precision(self, archives, tmp_path):
        expected = build(archives)(IDS)
        embedder = build(archives, cache=str(tmp_path / "cache"), cache_dtype="float16").train()
        first, second = embedder(IDS), embedder(IDS)
        assert torch.equal(first, second) and not torch.equal(first, expected)
        assert torch.equal(first, expected.half().float())
        sizes = [sum(map(len, stored_rows(path))) for path in (tmp_path / "cache").iterdir()]
        assert sizes == [8 * 26 * 2] * 2  # words of different sentences, a language model's columns, bytes

    def test_a_sentence_is_its_own_context(self, archives, tmp_path):
        """The same words in another batch, at other lengths."""
        embedder = build(archives, cache=str(tmp_path / "cache")).train()
        embedder(IDS)
        plain = build(archives)
        for ids in (IDS[:, :5].flip(0), IDS[1:3, :2], torch.tensor([[4, 3], [3, 4]])):
            torch.testing.assert_close(embedder(ids), plain(ids), rtol=0, atol=1e-6)

    def test_what_reads_them_is_trained(self, archives, tmp_path):
        gradients = []
        for cache in (None, str(tmp_path / "cache")):
            embedder = build(archives, projection_dim=4, cache=cache).train()
            for _ in range(2):
                embedder.zero_grad()
                embedder(IDS).sum().backward()
                gradients.append(embedder.projection.weight.grad.clone())
        for gradient in gradients[1:]:
            torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-5)

    def test_copies(self, archives, tmp_path):
        embedder = build(archives, cache=str(tmp_path / "cache")).train()
        expected = embedder(IDS)
        for copied in (copy.deepcopy(embedder), pickle.loads(pickle.dumps(embedder))):
            assert torch.equal(copied(IDS), expected)


class TestWhatItBelongsTo:
    def test_other_weights_have_another_directory(self, archives, tmp_path, runs):
        embedder = build(archives, ["forward"], cache=str(tmp_path / "cache")).train()
        model = embedder.language_models["forward_lm"]

        def gates():
            set_gates(embedder, [1, 0.5, 1, 0])

        def recurrent_weights():
            model.selection.encoder.stacks[0].layers[1].weight_hh_l0[0, 0] += 0.5

        def word_vectors():
            model.embedding.weight.data = model.embedding.weight.data * 2

        def loaded():
            embedder.load_state_dict({name: value / 3 for name, value in embedder.state_dict().items()})

        def boundary():
            model.boundary_id = 5

        def pruned():
            embedder.prune({"forward": [0, 2]})

        embedder(IDS)
        for number, change in enumerate([gates, recurrent_weights, word_vectors, loaded, pruned], start=2):
            with torch.no_grad():
                change()
            runs.clear()
            vectors = embedder(IDS)
            assert len(runs) == 1 and len(folders(tmp_path)) == number, change.__name__
            mask = IDS != 0
            torch.testing.assert_close(vectors, model(IDS, mask), rtol=0, atol=1e-6)
        before = fingerprint(model)
        boundary()
        assert fingerprint(model) != before

    @needs_bfloat16
    def test_another_directory_for_each_precision(self, archives, tmp_path):
        embedder = build(archives, ["forward"], cache=str(tmp_path / "cache")).train()
        exact = embedder(IDS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = embedder(IDS)
        assert len(folders(tmp_path)) == 2 and not torch.equal(exact, rounded)
        assert torch.equal(embedder(IDS), exact)

    def test_equal_language_models_share_one(self, archives, tmp_path):
        for _ in range(2):
            build(archives, cache=str(tmp_path / "cache")).train()(IDS)
        assert len(folders(tmp_path)) == 2
        assert [name.split("-")[0] for name in folders(tmp_path)] == ["backward", "forward"]

    def test_not_where_weights_are_trained_or_dropped(self, archives, tmp_path, runs):
        embedder = build(archives, ["forward"], cache=str(tmp_path / "cache")).train()
        model = embedder.language_models["forward_lm"]
        stack = model.selection.encoder.stacks[0]
        for change, undo in (
            (
                lambda: model.selection.gates.requires_grad_(True),
                lambda: model.selection.gates.requires_grad_(False),
            ),
            (lambda: setattr(stack.dropout, "p", 0.5), lambda: setattr(stack.dropout, "p", 0.0)),
            (lambda: setattr(stack.layer_dropout, "p", 0.5), lambda: setattr(stack.layer_dropout, "p", 0.0)),
            (embedder.double, embedder.float),
        ):
            change()
            embedder(IDS), embedder(IDS)
            assert len(runs) == 2 and not (tmp_path / "cache").exists()
            undo()
            runs.clear()
        embedder(IDS), embedder(IDS)
        assert len(runs) == 1

    def test_predictions_are_not_kept(self, archives, tmp_path, runs):
        """Neither before a training in the same process nor after it."""
        embedder = build(archives, cache=str(tmp_path / "cache")).eval()
        embedder(IDS), embedder(IDS)
        assert len(runs) == 4 and not (tmp_path / "cache").exists()
        embedder.train()(IDS)
        sizes = [path.stat().st_size for path in sorted((tmp_path / "cache").rglob("*.sqlite"))]
        embedder.eval()(OTHER_IDS)
        assert sizes == [path.stat().st_size for path in sorted((tmp_path / "cache").rglob("*.sqlite"))]

    def test_validations_are_kept(self, archives, tmp_path, runs):
        embedder = build(archives, cache=str(tmp_path / "cache")).eval()
        with cached_evaluation(torch.nn.Sequential(embedder)):
            embedder(IDS)
            assert len(runs) == 2
            embedder(IDS)
        assert len(runs) == 2
        embedder(IDS)
        assert len(runs) == 4
        with pytest.raises(RuntimeError), cached_evaluation(embedder):
            raise RuntimeError
        assert not embedder.caches_evaluation


class TestErrors:
    @pytest.mark.parametrize("option, value", [("lambda_0", 0.1), ("requires_grad", True)])
    def test_what_is_trained_has_no_cache(self, archives, tmp_path, option, value):
        with pytest.raises(ConfigurationError, match=f"change in training with {option}"):
            build(archives, cache=str(tmp_path), **{option: value})

    def test_dtype(self):
        with pytest.raises(
            ConfigurationError, match=r"cache_dtype .* is 'int8'; expected one of 'float32', 'float16'"
        ):
            LayerCache("somewhere", "int8")

    def test_a_file(self, archives, tmp_path):
        (tmp_path / "cache").write_text("")
        embedder = build(archives, cache=str(tmp_path / "cache")).train()
        with pytest.raises(ConfigurationError, match=r"is a directory, but '.*cache' is a file"):
            embedder(IDS)

    def test_a_full_disk_ends_no_training(self, archives, tmp_path, monkeypatch, caplog):
        class Full(VectorStore):
            def _connection(self):
                raise OSError(28, "No space left on device")

        embedder = build(archives, cache=str(tmp_path / "cache")).train()
        monkeypatch.setattr("ldnet_allennlp.common.layer_cache.VectorStore", Full)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                torch.testing.assert_close(embedder(IDS), build(archives)(IDS), rtol=0, atol=1e-6)
        assert caplog.text.count("No space left") == 2  # once for each language model


class TestTraining:
    """Through `allennlp train`."""

    @pytest.fixture(scope="class")
    def trainings(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("trainings")
        language_models = build_language_models(folder / "lm")
        embedder = "model.text_field_embedder.token_embedders.ldnet."
        models = {}
        for name, cached in (("plain", False), ("first", True), ("second", True)):
            overrides = {embedder + "cache": str(folder / "cache")} if cached else {}
            params = tagger_params(language_models, overrides=overrides)
            models[name] = train_model(params, str(folder / name))
        return folder, models

    def test_ends_with_the_same_model(self, trainings):
        _, models = trainings
        expected = models["plain"].state_dict()
        for name in ("first", "second"):
            state = models[name].state_dict()
            assert state.keys() == expected.keys()
            for key, value in expected.items():
                torch.testing.assert_close(state[key], value, rtol=0, atol=1e-5, msg=f"{name} {key}")
        first, second = models["first"].state_dict(), models["second"].state_dict()
        assert all(torch.equal(first[key], second[key]) for key in expected)

    def test_the_archive_needs_no_cache(self, trainings):
        folder, models = trainings
        (folder / "cache").rename(folder / "elsewhere")
        try:
            model = load_archive(str(folder / "first" / "model.tar.gz")).model.eval()
            with torch.no_grad():
                vectors = ldnet_embedder(model)(OTHER_IDS)
            expected = ldnet_embedder(models["plain"]).eval()(OTHER_IDS)
            torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)
            assert not (folder / "cache").exists()
        finally:
            (folder / "elsewhere").rename(folder / "cache")

    def test_a_pruned_archive_does_not_mention_it(self, trainings, tmp_path):
        folder, _ = trainings
        archive = str(folder / "first" / "model.tar.gz")
        assert (
            "cache"
            in load_archive(archive).config.params["model"]["text_field_embedder"]["token_embedders"]["ldnet"]
        )
        prune_archive(archive, str(tmp_path / "pruned.tar.gz"), keep=["4"])
        config = load_archive(str(tmp_path / "pruned.tar.gz")).config
        assert "cache" not in str(config.as_dict(quiet=True))

    def test_a_trained_model_does_not_keep_its_predictions(self, tmp_path):
        """With the trainer that keeps validations, too."""
        language_models = build_language_models(tmp_path / "lm")
        overrides = {
            "model.text_field_embedder.token_embedders.ldnet.cache": str(tmp_path / "cache"),
            "trainer.type": "strict_gradient_descent",
        }
        model = train_model(tagger_params(language_models, overrides=overrides), str(tmp_path / "out")).eval()
        sentences = {path: path.stat().st_size for path in (tmp_path / "cache").rglob("*.sqlite")}
        assert sentences
        with torch.no_grad():
            ldnet_embedder(model)(torch.randint(3, 9, (4, 11)))
        assert sentences == {path: path.stat().st_size for path in (tmp_path / "cache").rglob("*.sqlite")}

    def test_disk(self, trainings):
        """Bytes a token: the columns of a language model, 4 each."""
        folder, _ = trainings
        for path in (folder / "cache").iterdir():
            stored = stored_rows(path)
            assert stored and all(len(rows) % (26 * 4) == 0 for rows in stored)
            assert all(numpy.isfinite(numpy.frombuffer(rows, "float32")).all() for rows in stored)
