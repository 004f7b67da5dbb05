"""Language model checkpoints of the original, softmax included, and as part of a tagger trained here."""

import math

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models.archival import load_archive
from allennlp.modules.token_embedders import TokenEmbedder

from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.convert.language_models import convert_language_model
from ldnet_allennlp.convert.original_files import read_checkpoint, read_maps, read_options
from ldnet_allennlp.convert.weights import Converted
from tests.convert.originals import CHECKPOINTS, LANGUAGE_MODELS, expected, words_of_language_model

TRUTH = expected("expected_lm.json")


def converted_checkpoint(name: str, direction: str = "forward") -> Converted:
    path = str(CHECKPOINTS / f"{name}.th")
    return convert_language_model(
        read_checkpoint(path), words_of_language_model(direction), direction, read_options(path, None), None
    )


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    paths = {}
    for name, direction in LANGUAGE_MODELS.items():
        paths[name] = str(tmp_path_factory.mktemp(name) / "model.tar.gz")
        converted = converted_checkpoint(name, direction)
        write_archive(paths[name], converted.model, converted.config)
    return paths


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", sorted(LANGUAGE_MODELS))
class TestLogProbabilities:
    def test_of_every_token_of_a_stream(self, archives, name, dtype):
        model = load_archive(archives[name]).model.to(dtype).eval()
        tolerance = {torch.float64: 1e-10, torch.float32: 5e-5}[dtype]
        is_backward = LANGUAGE_MODELS[name] == "backward"
        pickle = read_maps(words_of_language_model(LANGUAGE_MODELS[name]), ["test_data"])
        # Numbers of the original; the padding comes before them here.
        stream = torch.tensor(pickle["test_data"]) + 1
        truth = TRUTH[f"{name}.th"]["token_log_prob"]
        found = []
        for start in range(len(truth)):
            window, target = stream[start : start + 1], stream[start + 1 : start + 2]
            with torch.no_grad():
                output = model(
                    {"tokens": {"tokens": window.unsqueeze(0)}},
                    targets=target.unsqueeze(0),
                    first_window=start == 0,
                    direction="backward" if is_backward else "forward",
                )
            found.append(-output["loss"].item())
        assert found == pytest.approx(truth, abs=tolerance)
        assert -sum(found) == pytest.approx(TRUTH[f"{name}.th"]["total_nll"], abs=100 * tolerance)

    def test_in_windows(self, archives, name, dtype):
        """A window's loss is the mean over it: a backward one is given in the natural order."""
        model = load_archive(archives[name]).model.to(dtype).eval()
        is_backward = LANGUAGE_MODELS[name] == "backward"
        stream = torch.tensor(
            read_maps(words_of_language_model(LANGUAGE_MODELS[name]), ["test_data"])["test_data"]
        )
        total, length = 0.0, 19
        for start in range(0, len(stream) - 1, length):
            window, target = stream[start : start + length] + 1, stream[start + 1 : start + 1 + length] + 1
            window = window[: len(target)]
            if is_backward:
                window, target = window.flip(0), target.flip(0)
            with torch.no_grad():
                output = model(
                    {"tokens": {"tokens": window.unsqueeze(0)}},
                    targets=target.unsqueeze(0),
                    first_window=start == 0,
                    direction=model.direction,
                )
            total += output["loss"].item() * len(target)
        tolerance = {torch.float64: 1e-9, torch.float32: 5e-3}[dtype]
        assert total == pytest.approx(TRUTH[f"{name}.th"]["total_nll"], abs=tolerance)


class TestConversion:
    def test_the_config_says_everything(self):
        converted = converted_checkpoint("ld0")
        model = converted.config["model"]
        assert model["cutoffs"] == TRUTH["ld0.th"]["cutoff"][:-1]
        assert model["spare_classes"] == 1 and model["projection_activation"] == "linear"
        assert model["contextualizer"]["layer_dropout"] == 0.5 and model["contextualizer"]["dropout"] == 0.01
        assert converted_checkpoint("basic_0", "backward").config["model"]["contextualizer"] == {
            "type": "stacked_rnn",
            "input_size": 6,
            "hidden_size": 7,
            "num_layers": 2,
            "cell_type": "lstm",
            "dropout": 0.01,
            "stateful": True,
        }

    def test_what_the_weights_do_not_tell_is_asked_for(self):
        checkpoint, words = read_checkpoint(str(CHECKPOINTS / "ld0.th")), words_of_language_model("forward")
        with pytest.raises(ConfigurationError, match="--direction"):
            convert_language_model(checkpoint, words, None, {}, None)
        with pytest.raises(ConfigurationError, match="--maps"):
            convert_language_model(checkpoint, None, "forward", {}, None)
        with pytest.raises(ConfigurationError, match="--projection-activation"):
            convert_language_model(checkpoint, words, "forward", {}, None)
        for value in ("x", math.nan):
            with pytest.raises(ConfigurationError, match="option droprate"):
                convert_language_model(checkpoint, words, "forward", {"droprate": value}, "relu")
        relu = convert_language_model(checkpoint, words, "forward", {"add_relu": True}, None)
        assert relu.config["model"]["projection_activation"] == "relu"

    def test_words_of_another_model(self):
        checkpoint = read_checkpoint(str(CHECKPOINTS / "ld0.th"))
        with pytest.raises(ConfigurationError, match=r"75 entries, but 'word_embed.weight'.*94 rows"):
            convert_language_model(checkpoint, words_of_language_model("backward"), "forward", {}, "linear")


def test_as_part_of_a_tagger_trained_here(archives):
    """The embedder moves the unknown word to its own place: every word keeps its vector."""
    vocab = Vocabulary()
    embedder = TokenEmbedder.from_params(
        Params(
            {
                "type": "ldnet",
                "forward": {"pretrained_file": archives["ld0"]},
                "backward": {"pretrained_file": archives["basic_0"]},
            }
        ),
        vocab=vocab,
    )
    for direction, name, namespace in (
        ("forward", "ld0", "ldnet_words"),
        ("backward", "basic_0", "ldnet_backward_words"),
    ):
        archive = load_archive(archives[name])
        weight = archive.model._text_field_embedder.token_embedder_tokens.weight
        words = archive.model.vocab.get_token_to_index_vocabulary("tokens")
        found = vocab.get_token_to_index_vocabulary(namespace)
        assert set(found) == set(words) and found["@@UNKNOWN@@"] == 1
        part = embedder.language_models[f"{direction}_lm"]
        assert part.boundary == "<eos>"
        for word, number in words.items():
            assert torch.equal(part.embedding.weight[found[word]], weight[number])
    assert embedder.get_output_dim() == 6 + 4 * 5 + 7
