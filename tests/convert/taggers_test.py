"""Complete taggers against the original's numbers, before and after pruning, in float64 and float32."""

from typing import Any

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive

from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.common.untrusted.pickles import read_torch_file
from ldnet_allennlp.convert.original_files import Checkpoint, read_checkpoint, read_options
from ldnet_allennlp.convert.taggers import convert_tagger
from ldnet_allennlp.convert.weights import Converted
from ldnet_allennlp.modules.crf.tagging_losses import tagging_loss
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from tests.convert.originals import (
    CHECKPOINTS,
    DATASET,
    TAGGERS,
    convert_weights,
    expected,
    instance_of,
    reader_of,
    sentences,
    tensors_of,
    time_first,
    with_original_padding,
)
from tests.resources import REFERENCE, load_reference, reference_parameters

PREDICTIONS = expected("expected_predictions.json")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def converted_checkpoint(name: str) -> Converted:
    path = str(CHECKPOINTS / f"{name}.th")
    return convert_tagger(read_checkpoint(path), TAGGERS[name], read_options(path, None))


@pytest.fixture(scope="module", params=sorted(TAGGERS))
def checkpoint_archive(request, tmp_path_factory):
    """A checkpoint of the original's scripts, converted, written and loaded again."""
    converted = converted_checkpoint(request.param)
    path = str(tmp_path_factory.mktemp(request.param) / "model.tar.gz")
    write_archive(path, converted.model, converted.config)
    return request.param, load_archive(path)


class TestExpectedPredictions:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("batch_size", [1, 12])
    @pytest.mark.parametrize("split", ["train", "dev", "test"])
    def test_archive_says_what_the_original_says_without_padding(
        self, checkpoint_archive, split, batch_size, dtype
    ):
        name, archive = checkpoint_archive
        model, reader = archive.model.to(dtype).eval(), archive.validation_dataset_reader
        model.top_k = 2
        tolerance = {torch.float64: 1e-10, torch.float32: 5e-5}[dtype]  # of scores around 10
        truth = PREDICTIONS[f"{name}.th"][f"{split}/batch1"]
        instances = [instance_of(reader, sentence) for sentence in sentences(split)]
        for start in range(0, len(instances), batch_size):
            part = truth[start : start + batch_size]
            with torch.no_grad():
                output = model(**tensors_of(model, instances[start : start + batch_size]))
            assert output["loss"].item() == pytest.approx(
                sum(sentence["nll"] for sentence in part) / len(part), abs=tolerance
            )
            tags = model.make_output_human_readable(dict(output))["tags"]
            assert tags == [sentence["pred"] for sentence in part]
            for ranked, sentence in zip(output["top_k_tags"], part):
                (_, best), (_, second) = ((path, float(score)) for path, score in map(_pair, ranked))
                assert best == pytest.approx(sentence["best_score"], abs=10 * tolerance)
                assert best - second == pytest.approx(sentence["margin"], abs=10 * tolerance)

    def test_span_f1_is_the_original_s_where_padding_does_not_change_its_tags(self, checkpoint_archive):
        name, archive = checkpoint_archive
        model, reader = archive.model, archive.validation_dataset_reader
        summary = expected("expected_summary.json")
        model.double().eval()
        for split in ("train", "dev", "test"):
            scores = summary[f"{name}.th {split}"]
            if scores["predictions_differ"]:
                continue
            model.get_metrics(reset=True)
            path = CHECKPOINTS / "data" / f"{split}.iobes"
            instances = list(reader.read(path))
            for instance in instances:
                reader.apply_token_indexers(instance)
            with torch.no_grad():
                model(**tensors_of(model, instances))
            metrics = model.get_metrics(reset=True)
            assert metrics["accuracy"] == pytest.approx(scores["acc"], abs=1e-6)
            for ours, original in (("f1-measure", "f1"), ("precision", "prec"), ("recall", "rec")):
                assert metrics[f"{ours}-overall"] == pytest.approx(scores[original], abs=1e-6)


def _pair(ranked: Any) -> Any:
    return (ranked["tags"], ranked["score"]) if isinstance(ranked, dict) else ranked


def state(name: str) -> dict[str, torch.Tensor]:
    return read_torch_file(str(REFERENCE / "h_seqlabel" / f"{name}.pt"))


def medium_weights() -> dict[str, torch.Tensor]:
    weights = reference_parameters(load_reference("h_seqlabel/medium_sparse.npz"))
    for name, tensor in reference_parameters(load_reference("a_rnn/medium_LDRNN_lstm.npz")).items():
        weights[f"f_lm.rnn.{name}"] = tensor
        weights[f"b_lm.rnn.{name}"] = -tensor
    return weights


WEIGHTS = {
    "sparse_random": lambda: state("sparse_random"),
    "sparse_random_gru": lambda: state("sparse_random_gru"),
    "sparse_random_pruned": lambda: state("sparse_random_pruned"),
    "sparse_random_pruned_fzero": lambda: state("sparse_random_pruned_fzero"),
    "vanilla_random": lambda: state("vanilla_random"),
    "basiclm_trained": lambda: read_checkpoint(str(CHECKPOINTS / "ner_basiclm.th")).weights,
    "elmo_trained": lambda: read_checkpoint(str(CHECKPOINTS / "ner_elmo.th")).weights,
    "medium_sparse": medium_weights,
}


def second_batch(converted: Converted) -> Any:
    order = load_reference("h_seqlabel/batches.npz")["order"][5:10]
    reader = reader_of(converted)
    every = sentences()
    return tensors_of(converted.model, [instance_of(reader, every[number]) for number in order])


class TestReferenceTaggers:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("name", sorted(WEIGHTS))
    def test_every_intermediate_value(self, name, dtype):
        arrays = load_reference(f"h_seqlabel/{name}.npz")
        converted = convert_weights(WEIGHTS[name]())
        model = converted.model.to(dtype)
        batch = second_batch(converted)
        tolerance = TOLERANCE[dtype]
        with torch.no_grad():
            found = with_original_padding(model, batch)
        values = {
            "c_o": found.characters,
            "f_lm_out": found.layers.get("forward"),
            "b_lm_out": found.layers.get("backward"),
            "lm_o": found.projected_layers,
            "word_rnn_out": found.encoded,
            "emission": found.emissions,
        }
        checked = [key for key in values if f"{key}_f64" in arrays]
        assert "emission" in checked
        for key in checked:
            torch.testing.assert_close(
                values[key].double(), time_first(arrays[f"{key}_f64"]), rtol=tolerance, atol=10 * tolerance
            )
        mask = batch["tokens"]["tokens"]["tokens"] > 0
        scores, words = model.crf.without_end_step(found.emissions, mask)
        loss = tagging_loss(model.loss, model.crf, scores, batch["tags"], words) / len(scores)
        assert loss.item() == pytest.approx(arrays["loss_f64"].item(), abs=10 * tolerance)
        for path, row, length in zip(
            model.crf.viterbi_tags(scores, words), arrays["decoded"].T.tolist(), words.sum(1).tolist()
        ):
            assert path[0] == row[:length]

    @pytest.mark.parametrize("name", sorted(WEIGHTS))
    def test_longest_sentence_of_a_batch_has_the_original_s_scores(self, name):
        """It has no padding, so the tagger itself must give them, the end step included."""
        arrays = load_reference(f"h_seqlabel/{name}.npz")
        converted = convert_weights(WEIGHTS[name]())
        converted.model.double().return_logits = True
        with torch.no_grad():
            output = converted.model(**second_batch(converted))
        assert int(output["mask"][0].sum()) == arrays["emission_f64"].shape[0]
        torch.testing.assert_close(
            output["logits"][0], time_first(arrays["emission_f64"])[0], rtol=1e-10, atol=1e-10
        )
        if "scores_sentence0_f64" in arrays:
            scores = output["logits"][0].unsqueeze(1) + converted.model.crf.transitions
            torch.testing.assert_close(
                scores, torch.as_tensor(arrays["scores_sentence0_f64"]), rtol=1e-10, atol=1e-10
            )

    def test_characters_at_every_step_of_the_words(self):
        arrays = load_reference("h_seqlabel/vanilla_random.npz")
        positions = load_reference("h_seqlabel/batches.npz")
        converted = convert_weights(WEIGHTS["vanilla_random"]())
        embedder = converted.model.double().text_field_embedder._token_embedders["token_characters"]
        batch = second_batch(converted)
        states = embedder.boundary_states(
            batch["tokens"]["token_characters"]["token_characters"], "last_token"
        )
        for found, outputs, places in (
            (states.forward, arrays["char_fw_out_f64"], positions["bs5/batch1/f_p"]),
            (states.backward, arrays["char_bw_out_f64"], positions["bs5/batch1/b_p"]),
        ):
            read = torch.as_tensor(outputs).flatten(end_dim=1)[torch.as_tensor(places)]
            read = read.view(-1, 5, read.size(1)).transpose(0, 1)
            mask = states.mask
            torch.testing.assert_close(found[mask], read[mask], rtol=1e-10, atol=1e-10)

    def test_pruning_here_gives_the_original_s_pruned_scores(self):
        for name, reference, key in (
            ("sparse_random", "sparse_random_pruned", "emission_f64"),
            ("medium_sparse", "medium_sparse", "pruned_emission_f64"),
        ):
            converted = convert_weights(WEIGHTS[name]())
            model = converted.model.double()
            before = sum(parameter.numel() for parameter in model.parameters())
            next(module for module in model.modules() if isinstance(module, LdnetEmbedder)).prune()
            assert sum(parameter.numel() for parameter in model.parameters()) < before
            with torch.no_grad():
                found = with_original_padding(model, second_batch(converted)).emissions
            truth = time_first(load_reference(f"h_seqlabel/{reference}.npz")[key])
            torch.testing.assert_close(found, truth, rtol=1e-10, atol=1e-10)

    def test_pruned_state_dict_is_the_original_s(self):
        pruned = convert_weights(state("sparse_random")).model
        next(module for module in pruned.modules() if isinstance(module, LdnetEmbedder)).prune()
        truth = convert_weights(state("sparse_random_pruned")).model.state_dict()
        found = pruned.state_dict()
        assert set(found) == set(truth)
        for name, tensor in truth.items():
            assert torch.equal(found[name], tensor), name

    def test_batches_are_indexed_as_in_the_original(self):
        arrays = load_reference("h_seqlabel/batches.npz")
        converted = convert_weights(state("sparse_random"))
        vocab, batch = converted.model.vocab, second_batch(converted)["tokens"]
        maps = read_checkpoint(str(CHECKPOINTS / "pner0.th")).maps
        for ids, namespace, key, mapping, end in (
            (batch["tokens"]["tokens"], "tokens", "f_w", "gw_map", "<\n>"),
            (batch["ldnet"]["token_ids"], "ldnet_words", "flm_w", "flm_map", "\n"),
        ):
            names = {number: name for name, number in maps[mapping].items()}
            truth = time_first(arrays[f"bs5/batch1/{key}"]).tolist()
            for row, original in zip(ids.tolist(), truth):
                found = [vocab.get_token_from_index(number, namespace) for number in row if number]
                special = {"<unk>": "@@UNKNOWN@@", end: "<eos>"}
                wanted = [special.get(names[number], names[number]) for number in original]
                assert found == wanted[: len(found)]
                assert set(wanted[len(found) :]) <= {"<eos>"}


class TestMapsThatDoNotFit:
    def test_maps_are_needed(self):
        checkpoint = read_checkpoint(str(CHECKPOINTS / "ner.th"))
        with pytest.raises(ConfigurationError, match=r"without its maps.*--maps"):
            convert_tagger(checkpoint, None, {})

    @pytest.mark.parametrize("name", ["flm_map", "blm_map", "gw_map", "c_map", "y_map"])
    def test_size_numbers_and_special_entries_are_checked(self, name):
        checkpoint = read_checkpoint(str(CHECKPOINTS / "pner0.th"))
        entries = checkpoint.maps[name]
        first = next(key for key in entries if key.strip() and "<" not in key)
        fewer = {key: number for key, number in entries.items() if number < len(entries) - 1}
        twice = {**entries, first: (entries[first] + 1) % len(entries)}
        special = "<s>" if name == "y_map" else "<unk>"
        renamed = {("other" if key == special else key): number for key, number in entries.items()}
        for wrong, message in (
            (fewer, f"{name}.*{len(entries) - 1} entries.*{len(entries)} rows"),
            (twice, f"{name}.*numbers from 0 on, each once"),
            (renamed, f"{name} has no '{special}'"),
            ([], f"{name} was expected to be a map"),
            ({**entries, first: "0"}, f"{name} was expected to be a map"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                convert_tagger(checkpoint._replace(maps={**checkpoint.maps, name: wrong}), None, {})

    def test_weights_that_do_not_fit_each_other(self):
        checkpoint = read_checkpoint(str(CHECKPOINTS / "pner0.th"))
        weights = checkpoint.weights
        for change, message in (
            ({"lm_seq.weight": torch.zeros(8, 7)}, "lm_seq.weight' reads 7"),
            ({"word_rnn.weight_hh_l0": torch.zeros(23, 6)}, "4, 3 or 1 times"),
            ({"crf.hidden2tag.bias": torch.zeros(3)}, "crf.hidden2tag.bias'.*size \\(19,\\)"),
            ({"extra.weight": torch.zeros(1)}, "extra.weight"),
            ({"char_seq.weight": torch.zeros(8)}, "char_seq.weight' was expected to be a matrix"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                convert_tagger(checkpoint._replace(weights={**weights, **change}), None, {})
        without = {name: tensor for name, tensor in weights.items() if name != "char_seq.bias"}
        with pytest.raises(ConfigurationError, match=r"has no 'char_seq.bias'"):
            convert_tagger(checkpoint._replace(weights=without), None, {})

    def test_end_token_gives_way_to_a_word_of_that_name(self):
        checkpoint: Checkpoint = read_checkpoint(str(CHECKPOINTS / "pner0.th"))
        words = dict(checkpoint.maps["flm_map"])
        words["<eos>"] = words.pop("Peru")
        converted = convert_tagger(checkpoint._replace(maps={**checkpoint.maps, "flm_map": words}), None, {})
        assert converted.config["dataset_reader"]["end_token"] == "<eos>_"

    def test_dataset_and_checkpoint_maps_are_the_same_here(self):
        checkpoint = read_checkpoint(str(CHECKPOINTS / "pner0.th"))
        first, second = convert_tagger(checkpoint, None, {}), convert_tagger(checkpoint, DATASET, {})
        for name, tensor in first.model.state_dict().items():
            assert torch.equal(tensor, second.model.state_dict()[name])
