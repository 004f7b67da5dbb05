import json
import math
from contextlib import nullcontext

import numpy
import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.commands.train import train_model_from_file
from allennlp.common.checks import ConfigurationError
from allennlp.common.testing import ModelTestCase
from allennlp.data import Vocabulary
from allennlp.models import Model, load_archive
from allennlp.modules.seq2seq_encoders import ComposeEncoder, LstmSeq2SeqEncoder
from allennlp.nn import Activation
from allennlp_models.lm.models import language_model
from allennlp_models.lm.models.language_model import LanguageModel
from torch.nn.parallel import DistributedDataParallel

import ldnet_allennlp  # noqa: F401
from ldnet_allennlp.common import precision
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader
from ldnet_allennlp.data.lm_stream.windows import StreamWindows, TokenStream
from ldnet_allennlp.models.adaptive_language_model import AdaptiveLanguageModel
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from tests.models.language_model_builders import make_model, original_model, original_names, source_of
from tests.processes import run_in_two_processes
from tests.resources import FIXTURES, load_reference, needs_bfloat16, reference_parameters

TRAIN, VALID = str(FIXTURES / "lm" / "train.txt"), str(FIXTURES / "lm" / "valid.txt")
PATHS = json.dumps({"train_data_path": TRAIN, "validation_data_path": VALID})
BOUNDARY = 2
SENTENCES = torch.tensor([[2, 9, 5, 17, 28, 2], [2, 4, 2, 0, 0, 0], [2, 6, 1, 20, 2, 0]])


def close(actual, expected, tolerance=1e-12):
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def windows(ids, batch_size, steps, backward=False):
    """The keyword arguments of `forward` for a stream of ids."""
    stream = TokenStream(ids[0], [numpy.asarray(ids[1:])])
    batches = StreamWindows(stream, batch_size, steps, backward=backward).windows()
    for number, (inputs, targets) in enumerate(batches):
        yield {
            "source": source_of(torch.as_tensor(inputs)),
            "targets": torch.as_tensor(targets),
            "first_window": number == 0,
            "direction": "backward" if backward else "forward",
        }


def random_stream(length, num_words=30, seed=3):
    return numpy.random.RandomState(seed).randint(1, num_words + 1, length).tolist()


def brute_force_nll(model, ids, direction="forward"):
    """Minus the log-probability of all tokens of one stream but the first read, one by one."""
    ids = ids[::-1] if direction == "backward" else ids
    total = 0.0
    embedding = model._text_field_embedder.token_embedder_tokens.weight
    for end in range(1, len(ids)):
        model._contextualizer.reset_states()
        contextual = model._contextualizer(embedding[torch.tensor([ids[:end]])], None)[:, -1]
        if model._projection is not None:
            contextual = model._projection_activation(model._projection(contextual))
        total -= model._softmax_loss.log_prob(contextual)[0, ids[end] - 1].item()
    model._contextualizer.reset_states()
    return total


class TestReference:
    """Vectors of the original's `LM`, which reads time first."""

    def build(self, case, dtype):
        arrays = load_reference(f"d_lm/{case}.npz")
        parameters = reference_parameters(arrays, dtype)
        if case == "medium":
            encoder = reference_parameters(load_reference("a_rnn/medium_LDRNN_lstm.npz"), dtype)
            parameters.update({f"rnn.{name}": value for name, value in encoder.items()})
        relu = case in ("proj_relu", "medium")
        return original_model(parameters, arrays["cutoff"].tolist(), relu, dtype), arrays

    def batch(self, arrays, number):
        words, targets = torch.as_tensor(arrays[f"w{number}"]), torch.as_tensor(arrays[f"t{number}"])
        return {
            "source": source_of(words.t() + 1),
            "targets": targets.view(words.shape).t() + 1,
        }

    @pytest.mark.parametrize(
        "suffix, dtype, tolerance", [("f64", torch.float64, 1e-10), ("f32", torch.float32, 1e-5)]
    )
    @pytest.mark.parametrize("case", ["proj", "proj_relu", "noproj", "medium"])
    def test_losses_with_and_without_carried_states(self, case, suffix, dtype, tolerance):
        model, arrays = self.build(case, dtype)
        expected = "f64" if case == "medium" else suffix  # its losses are stored in float64 only
        first, second = self.batch(arrays, 1), self.batch(arrays, 2)
        close(model(**first, first_window=True)["loss"], arrays[f"loss1_{expected}"], tolerance)
        close(model(**second)["loss"], arrays[f"loss2_carried_{expected}"], tolerance)
        close(model(**second, first_window=True)["loss"], arrays[f"loss2_fresh_{expected}"], tolerance)

    @pytest.mark.parametrize("case", ["proj", "proj_relu", "noproj", "medium"])
    def test_log_probabilities(self, case):
        model, arrays = self.build(case, torch.float64)
        for number, name in ((1, "log_prob1_f64"), (2, "log_prob2_carried_f64")):
            outputs = model(**self.batch(arrays, number), first_window=number == 1)
            time_first = outputs["lm_embeddings"].transpose(0, 1).flatten(end_dim=1)
            close(model._softmax_loss.log_prob(model._before_softmax(time_first)), arrays[name], 1e-10)

    @pytest.mark.parametrize("case", ["proj", "medium"])
    def test_gradients(self, case):
        model, arrays = self.build(case, torch.float64)
        model(**self.batch(arrays, 1), first_window=True)["loss"].backward()
        embedding = model._text_field_embedder.token_embedder_tokens.weight
        checked = 0
        for name, parameter in original_names(model).items():
            gradient = embedding.grad[1:] if name == "word_embed.weight" else parameter.grad
            if f"grad/{name}_f64" in arrays:
                expected = arrays[f"grad/{name}_f64"]
                close(gradient[: len(expected)], expected, 1e-10)
                checked += 1
        assert checked == sum(key.startswith("grad/") for key in arrays)

    @pytest.mark.parametrize(
        "name, clip, layer_dropout", [("lm_adam", 5, 0), ("lm_adam_layerdrop1_clip05", 0.5, 1)]
    )
    def test_training_step_by_step(self, name, clip, layer_dropout):
        """The loop of train_lm.py: loss and norm of the gradients in each step, parameters after the last."""
        arrays = load_reference(f"j_traces/{name}.npz")
        initial = {
            key[len("init/") :]: torch.as_tensor(value).double()
            for key, value in arrays.items()
            if key.startswith("init/")
        }
        model = original_model(initial, arrays["cutoff"].tolist(), relu=True).train()
        model._contextualizer.stacks[0].layer_dropout.p = layer_dropout
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step, (words, targets) in enumerate(zip(arrays["X"], arrays["Y"])):
            optimizer.zero_grad()
            loss = model(
                source_of(torch.as_tensor(words).t() + 1),
                targets=torch.as_tensor(targets).t() + 1,
                first_window=step == 0,
            )["loss"]
            close(loss, arrays["loss"][step], 1e-10)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            close(norm, arrays["grad_norm"][step], 1e-10)
            optimizer.step()
        final = {key[len("final/") :]: value for key, value in arrays.items() if key.startswith("final/")}
        ours = original_names(model)
        for key, value in final.items():
            close(ours[key][: len(value)], value, 1e-9)


class TestStream:
    @pytest.mark.parametrize("direction", ["forward", "backward"])
    @pytest.mark.parametrize(
        "projection", [{}, {"projection_dim": 5, "projection_activation": Activation.by_name("relu")()}]
    )
    def test_perplexity_is_that_of_each_token_by_itself(self, direction, projection):
        model = make_model(stateful=True, direction=direction, **projection)
        ids = random_stream(50)
        for batch in windows(ids, 1, 7, backward=direction == "backward"):
            model(**batch)
        expected = math.exp(brute_force_nll(model, ids, direction) / 49)
        assert model.get_metrics() == {"perplexity": pytest.approx(expected, rel=1e-12)}

    @pytest.mark.parametrize("direction", ["forward", "backward"])
    def test_rows_are_streams_of_their_own(self, direction):
        model = make_model(stateful=True, direction=direction)
        ids, backward = random_stream(60), direction == "backward"
        for batch in windows(ids, 3, 4, backward):
            model(**batch)
        rows = [ids[0:21], ids[20:41], ids[40:60]]  # 59 targets: 20, 20 and 19
        expected = math.exp(sum(brute_force_nll(model, row, direction) for row in rows) / 59)
        assert model.get_metrics(reset=True)["perplexity"] == pytest.approx(expected, rel=1e-12)
        assert model.get_metrics() == {"perplexity": 0.0}

    @pytest.mark.parametrize("direction", ["forward", "backward"])
    @pytest.mark.parametrize("own_encoder", [True, False])
    def test_windows_equal_one_long_run(self, direction, own_encoder):
        other = None if own_encoder else LstmSeq2SeqEncoder(4, 3, stateful=True)
        model = make_model(stateful=True, direction=direction, contextualizer=other)
        ids, backward = random_stream(62), direction == "backward"
        (whole,) = windows(ids, 3, 1000, backward)
        expected = model(**whole)["lm_embeddings"]
        parts = [model(**batch)["lm_embeddings"] for batch in windows(ids, 3, 6, backward)]
        parts = parts[::-1] if backward else parts
        # The rows have 21, 20 and 20 tokens.
        for row, length in enumerate((21, 20, 20)):
            pieces = [part[row] for part in parts]
            pieces = [piece[piece.abs().sum(dim=-1) > 0] for piece in pieces]
            close(torch.cat(pieces), expected[row, :length])

    def test_a_backward_model_is_a_forward_model_on_the_reversed_text(self):
        forward = make_model(stateful=True, direction="forward")
        backward = make_model(stateful=True, direction="backward")
        ids = random_stream(61)
        for batch in windows(ids, 3, 7, backward=True):
            backward(**batch)
        for batch in windows(ids[::-1], 3, 7):
            forward(**batch)
        assert forward.get_metrics()["perplexity"] == pytest.approx(
            backward.get_metrics()["perplexity"], rel=1e-12
        )

    def test_first_window_forgets(self):
        model = make_model(stateful=True)
        batches = list(windows(random_stream(40), 2, 5))
        first = model(**batches[0])["lm_embeddings"]
        carried = model(**batches[0])["lm_embeddings"]
        close(carried, first)
        batches[0]["first_window"] = False
        assert not torch.allclose(model(**batches[0])["lm_embeddings"], first)

    @pytest.mark.parametrize(
        "contextualizer", ["ld_rnn", "stacked_rnn", "layer_selection", "compose", "lstm"]
    )
    def test_sentences_and_streams_do_not_meet(self, contextualizer):
        """Sentences do not know what was read before, and the next window does not know of the sentences."""

        def build():
            torch.manual_seed(6)
            encoder = {
                "ld_rnn": lambda: LdRnn(4, 3, 2, stateful=True),
                "stacked_rnn": lambda: StackedRnn(4, 3, 2, stateful=True),
                "layer_selection": lambda: LayerSelection(LdRnn(4, 3, 2, stateful=True)),
                "compose": lambda: ComposeEncoder(
                    [LdRnn(4, 3, 2, stateful=True), LdRnn(10, 2, 1, stateful=True)]
                ),
                "lstm": lambda: LstmSeq2SeqEncoder(4, 3, stateful=True),
            }[contextualizer]()
            return make_model(contextualizer=encoder)

        model, undisturbed = build(), build()
        alone = model(source_of(SENTENCES))["lm_embeddings"]
        log_probs = model.token_log_probs(source_of(SENTENCES))["forward"]
        for number, batch in enumerate(windows(random_stream(40), 2, 5)):
            close(model(**batch)["loss"], undisturbed(**batch)["loss"])
            if number:
                close(model(**batch)["loss"], undisturbed(**batch)["loss"])
            rows = SENTENCES if number % 2 else SENTENCES[:2]  # another number of rows than the stream's
            close(model.token_log_probs(source_of(rows))["forward"], log_probs[: len(rows)])
            close(model(source_of(rows))["lm_embeddings"], alone[: len(rows)])
        gradient = torch.autograd.grad(model(source_of(SENTENCES))["loss"], model._softmax_loss.head.weight)[
            0
        ]
        assert gradient.abs().sum() > 0

    def test_a_window_of_another_direction_is_an_error(self):
        """Such a model would read what it is to predict."""
        for direction in ("forward", "backward"):
            model = make_model(stateful=True, direction=direction)
            batch = next(windows(random_stream(9), 1, 4, backward=direction == "forward"))
            with pytest.raises(ConfigurationError, match=f"is {direction}, but that of its lm_stream"):
                model(**batch)

    def test_both_directions_of_a_stream_are_two_models_with_shared_vectors(self):
        both = make_model(bidirectional=True, stateful=True, projection_dim=5)
        halves = {}
        for number, direction in enumerate(("forward", "backward")):
            half = make_model(stateful=True, direction=direction, projection_dim=5)
            weights = {
                name.replace(f"stacks.{number}.", "stacks.0."): value
                for name, value in both.state_dict().items()
                if f"stacks.{1 - number}." not in name
            }
            half.load_state_dict(weights)
            halves[direction] = half
        ids = random_stream(47)
        for forward, backward in zip(windows(ids, 3, 4), windows(ids, 3, 4, backward=True)):
            given = {"backward_source": backward["source"], "backward_targets": backward["targets"]}
            outputs = both(**{**forward, **given, "direction": "bidirectional"})
            expected = [halves["forward"](**forward), halves["backward"](**backward)]
            close(outputs["loss"], sum(output["loss"] for output in expected) / 2)
            vectors = [output["lm_embeddings"] for output in expected]
            close(outputs["lm_embeddings"], torch.cat(vectors, dim=-1))
        perplexities = both.get_metrics()
        for direction, half in halves.items():
            assert perplexities[f"{direction}_perplexity"] == pytest.approx(half.get_metrics()["perplexity"])

    def test_a_bidirectional_model_needs_both_windows_and_an_ld_rnn(self):
        with pytest.raises(ConfigurationError, match='needs the loader\'s direction "both"'):
            make_model(bidirectional=True)(**next(windows(random_stream(9), 1, 4)))
        forward = next(windows(random_stream(9), 1, 4))
        given = {"backward_source": forward["source"], "backward_targets": forward["targets"]}
        lstm = LstmSeq2SeqEncoder(input_size=4, hidden_size=3, bidirectional=True)
        with pytest.raises(
            ConfigurationError, match="through an ld_rnn, but its contextualizer is a LstmSeq2SeqEncoder"
        ):
            make_model(bidirectional=True, contextualizer=lstm)(**{**forward, **given, "direction": None})

    @pytest.mark.parametrize("direction", ["forward", "backward", "both"])
    @pytest.mark.parametrize("options", [{}, {"tail_samples": 3}])
    def test_targets_on_the_host_change_nothing(self, direction, options):
        """Whole windows, and a last one whose rows end earlier."""
        results = []
        for on_host in (False, True):
            both = direction == "both"
            model = make_model(
                stateful=True,
                bidirectional=both,
                **options,
                **({} if both else {"direction": direction}),
            )
            ids = random_stream(48)
            batches = list(windows(ids, 2, 10, backward=direction == "backward"))
            if both:
                for batch, other in zip(batches, windows(ids, 2, 10, backward=True)):
                    batch.update(direction="bidirectional", backward_source=other["source"])
                    batch["backward_targets"] = other["targets"]
            whole = [bool((batch["targets"] > 0).all()) for batch in batches]
            assert True in whole and False in whole
            torch.manual_seed(8)
            for batch in batches:
                names = [name for name in ("targets", "backward_targets") if name in batch]
                given = {"host_targets": [batch[name].numpy() for name in names]} if on_host else {}
                outputs = model(**batch, **given)
                outputs["loss"].backward()
                results.append([outputs["loss"], outputs["lm_embeddings"]])
            results.append([parameter.grad.to_dense() for parameter in model.parameters()])
            results.append([torch.tensor(model.get_metrics()["perplexity"])])
        half = len(results) // 2
        for found, expected in zip(results[half:], results[:half]):
            for one, other in zip(found, expected):
                close(one, other)

    @needs_bfloat16
    def test_bfloat16_reaches_all_but_the_softmax(self):
        exact, rounded = (
            make_model(stateful=True, projection_dim=5, autocast=name).float() for name in (None, "bfloat16")
        )
        seen = []
        rounded._softmax_loss.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
        for batch in windows(random_stream(40), 2, 5):
            expected, outputs = exact(**batch), rounded(**batch)
            torch.testing.assert_close(outputs["loss"], expected["loss"], rtol=0.02, atol=0)
            assert outputs["lm_embeddings"].dtype == torch.float32
            assert not torch.equal(outputs["lm_embeddings"], expected["lm_embeddings"])
        outputs["loss"].backward()
        assert set(seen) == {torch.bfloat16} and outputs["loss"].dtype == torch.float32

    @pytest.mark.parametrize(
        "autocast, message",
        [
            ("half", "null, 'auto', 'bfloat16' or 'float16', not 'half'"),
            ("float16", "use the trainer's use_amp"),
            (
                "bfloat16",
                "autocast of the adaptive_language_model is 'bfloat16', which this machine does not support",
            ),
        ],
    )
    def test_a_precision_that_is_not_available(self, autocast, message, monkeypatch):
        monkeypatch.setattr(precision, "supports", lambda dtype, device: False)
        with pytest.raises(ConfigurationError, match=message):
            make_model(autocast=autocast)
        batch = next(windows(random_stream(40), 2, 5))
        assert torch.equal(make_model(autocast="auto")(**batch)["loss"], make_model()(**batch)["loss"])

    def test_a_batch_without_targets_can_be_trained_on(self):
        """In a distributed training a process may run out of text one window before another."""
        model = make_model(stateful=True).train()
        nothing = torch.zeros(2, 3, dtype=torch.long)
        outputs = model(source_of(nothing), targets=nothing)
        assert outputs["loss"] == 0 and outputs["batch_weight"] == 0
        outputs["loss"].backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        assert model.get_metrics()["perplexity"] == 0


def test_an_archive_trained_in_bfloat16_loads_without_it(tmp_path, monkeypatch):
    overrides = {"model.autocast": "bfloat16", **json.loads(PATHS)}
    with monkeypatch.context() as context:
        context.setattr(precision, "supports", lambda dtype, device: True)
        context.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
        config = str(FIXTURES / "lm" / "stream_forward.jsonnet")
        train_model_from_file(config, str(tmp_path / "out"), overrides=json.dumps(overrides))
    monkeypatch.setattr(precision, "supports", lambda dtype, device: False)
    model = load_archive(tmp_path / "out" / "model.tar.gz").model
    assert model(source_of(torch.tensor([[2, 1, 2]])))["loss"].isfinite()


class TestSentences:
    @pytest.mark.parametrize("direction", ["forward", "backward"])
    def test_loss_and_log_probabilities_of_each_token(self, direction):
        model = make_model(direction=direction, projection_dim=5)
        outputs = model(source_of(SENTENCES))
        values = model.token_log_probs(source_of(SENTENCES))[direction]
        assert values.shape == SENTENCES.shape
        for row, length in enumerate((6, 3, 5)):
            ids = SENTENCES[row, :length].tolist()
            close(-values[row].sum(), brute_force_nll(model, ids, direction))
            # The last token alone, given all others: the boundary at the end of reading.
            rest = ids[1:] if direction == "backward" else ids[:-1]
            predicted = values[row, 0 if direction == "backward" else length - 1]
            alone = brute_force_nll(model, ids, direction) - brute_force_nll(model, rest, direction)
            close(predicted, -alone)
        assert ((values != 0).sum(dim=1) == torch.tensor([5, 2, 4])).all()
        assert outputs["batch_weight"] == 11
        close(outputs["loss"], -values.sum() / 11)
        close(outputs[f"{direction}_loss"], outputs["loss"])
        assert set(outputs) == {
            "loss",
            f"{direction}_loss",
            "lm_embeddings",
            "noncontextual_token_embeddings",
            "mask",
            "batch_weight",
        }

    def test_a_token_log_probability_depends_on_what_was_read_alone(self):
        for direction, changed, same in (("forward", 4, slice(0, 4)), ("backward", 1, slice(2, 6))):
            model = make_model(direction=direction)
            other = SENTENCES.clone()
            other[0, changed] = 23
            before, after = (
                model.token_log_probs(source_of(ids))[direction][0] for ids in (SENTENCES, other)
            )
            close(after[same], before[same])
            assert abs(after[changed] - before[changed]) > 1e-3

    def test_a_backward_model_is_a_forward_model_on_reversed_sentences(self):
        forward, backward = make_model(direction="forward"), make_model(direction="backward")
        reversed_ids = torch.zeros_like(SENTENCES)
        for row, length in enumerate((6, 3, 5)):
            reversed_ids[row, :length] = SENTENCES[row, :length].flip(0)
        one, other = forward(source_of(reversed_ids)), backward(source_of(SENTENCES))
        close(one["loss"], other["loss"])
        for row, length in enumerate((6, 3, 5)):
            close(other["lm_embeddings"][row, :length], one["lm_embeddings"][row, :length].flip(0))
        assert torch.equal(other["mask"], SENTENCES > 0)
        embedding = backward._text_field_embedder(source_of(SENTENCES))
        close(other["noncontextual_token_embeddings"], embedding)

    @pytest.mark.parametrize("projection", [{}, {"projection_dim": 5}])
    def test_bidirectional_is_both_directions(self, projection):
        both = make_model(bidirectional=True, **projection)
        outputs = both(source_of(SENTENCES))
        values = both.token_log_probs(source_of(SENTENCES))
        for number, direction in enumerate(("forward", "backward")):
            single = make_model(direction=direction, **projection)
            stack = both._contextualizer.stacks[number].state_dict()
            single._contextualizer.stacks[0].load_state_dict(stack)
            for part in ("_text_field_embedder", "_softmax_loss", *(["_projection"] if projection else [])):
                getattr(single, part).load_state_dict(getattr(both, part).state_dict())
            expected = single(source_of(SENTENCES))
            close(outputs[f"{direction}_loss"], expected["loss"])
            close(outputs["lm_embeddings"].chunk(2, dim=-1)[number], expected["lm_embeddings"])
            close(values[direction], single.token_log_probs(source_of(SENTENCES))[direction])
        close(outputs["loss"], (outputs["forward_loss"] + outputs["backward_loss"]) / 2)
        metrics = both.get_metrics()
        assert metrics["forward_perplexity"] == pytest.approx(math.exp(outputs["forward_loss"]))
        assert metrics["backward_perplexity"] == pytest.approx(math.exp(outputs["backward_loss"]))
        assert metrics["perplexity"] == pytest.approx(math.exp(outputs["loss"]))

    def test_perplexity_weighs_batches_by_their_targets(self):
        model = make_model()
        model(source_of(SENTENCES))
        expected = model.get_metrics(reset=True)["perplexity"]
        for row, length in enumerate((6, 3, 5)):
            model(source_of(SENTENCES[row : row + 1, :length]))
        assert model.get_metrics()["perplexity"] == pytest.approx(expected, rel=1e-12)

    def test_no_tokens_no_loss(self):
        """As `LanguageModel` does where the vocabulary's words are not among the inputs."""
        model = make_model()
        embedder = model._text_field_embedder
        embedder._token_embedders = {"words": embedder._token_embedders["tokens"]}
        embedder.token_embedder_words = embedder.token_embedder_tokens
        embedder._ordered_embedder_keys = ["words"]
        outputs = model({"words": {"tokens": SENTENCES}})
        assert set(outputs) == {"lm_embeddings", "noncontextual_token_embeddings", "mask"}


class TestContract:
    def test_is_a_language_model_without_a_full_softmax(self, monkeypatch):
        def fail(*args, **kwargs):
            raise AssertionError("a softmax over the whole vocabulary was made")

        monkeypatch.setattr(language_model.SoftmaxLoss, "__init__", fail)
        monkeypatch.setattr(language_model.SampledSoftmaxLoss, "__init__", fail)
        model = make_model(num_words=2000, cutoffs=[100, 500])
        assert isinstance(model, LanguageModel)
        assert Model.by_name("adaptive_language_model") is AdaptiveLanguageModel
        assert model._softmax_loss.num_words == 2000  # the padding is no class
        largest = max(parameter.numel() for parameter in model._softmax_loss.parameters())
        assert largest < 2000 * model._forward_dim / 2

    def test_deleting_the_softmax_leaves_the_vectors(self):
        model = make_model(projection_dim=5)
        expected = model(source_of(SENTENCES))
        model.delete_softmax()
        outputs = model(source_of(SENTENCES))
        assert set(outputs) == {"lm_embeddings", "noncontextual_token_embeddings", "mask"}
        close(outputs["lm_embeddings"], expected["lm_embeddings"])
        assert not [name for name, _ in model.named_parameters() if "softmax" in name or "projection" in name]
        with pytest.raises(ConfigurationError, match="softmax of this language model was deleted"):
            model.token_log_probs(source_of(SENTENCES))

    def test_number_of_layers(self):
        assert make_model().num_layers() == 3  # the word vectors count

    def test_direction_is_known(self):
        assert make_model(direction="backward").direction == "backward"
        assert make_model(bidirectional=True).direction == "bidirectional"

    def test_places_of_the_dropouts(self):
        model = make_model(dropout=1.0, projection_dim=5).train()
        outputs = model(source_of(SENTENCES))
        close(outputs["lm_embeddings"], model.eval()(source_of(SENTENCES))["lm_embeddings"])
        from_nothing = model._softmax_loss.log_prob(torch.zeros(1, 5, dtype=torch.float64))[0]
        targets = torch.cat([row[1:length] for row, length in zip(SENTENCES, (6, 3, 5))]) - 1
        close(outputs["loss"], -from_nothing[targets].mean())

        model = make_model(embedding_dropout=1.0).train()
        outputs = model(source_of(SENTENCES))
        embeddings = model._text_field_embedder(source_of(SENTENCES))
        close(outputs["noncontextual_token_embeddings"], embeddings)
        expected = model._contextualizer(torch.zeros_like(embeddings), SENTENCES > 0)
        close(outputs["lm_embeddings"], expected)

    def test_the_projection_starts_as_the_originals(self):
        weight, bias = make_model(projection_dim=500, large_weights=False)._projection.parameters()
        bound = math.sqrt(6 / (10 + 500))
        assert (bias == 0).all() and 0.99 * bound < weight.abs().max() <= bound

    def test_cutoffs_beyond_the_vocabulary_are_left_out(self, caplog):
        model = make_model(num_words=30, cutoffs=[10, 30, 31, 4000])
        assert model._softmax_loss.cutoffs == [10, 30]
        assert "[31, 4000] exceed the vocabulary of 30 words" in caplog.text
        assert make_model(num_words=30, cutoffs=[4000])._softmax_loss.cutoffs == [30]

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"num_samples": 10}, "num_samples"),
            ({"sparse_embeddings": True}, "sparse_embeddings"),
            ({"direction": "up"}, "'up'"),
            ({"direction": "backward", "bidirectional": True}, "a bidirectional one has none"),
            ({"contextualizer": LdRnn(4, 3, 1, bidirectional=True)}, "must match its contextualizer"),
            ({"contextualizer": LdRnn(7, 3, 1)}, "size 7 .* size 4"),
            ({"projection_dim": 0}, "projection_dim"),
            ({"projection_activation": Activation.by_name("relu")()}, "requires a projection_dim"),
            ({"cutoffs": []}, "cutoffs"),
            ({"cutoffs": [9, 3]}, "increase"),
        ],
    )
    def test_errors(self, options, message):
        with pytest.raises(ConfigurationError, match=message):
            make_model(**options)


class TestWithAllenNlp(ModelTestCase):
    def train(self, config, **overrides):
        return self.ensure_model_can_train_save_and_load(
            FIXTURES / "lm" / f"{config}.jsonnet", overrides=json.dumps({**json.loads(PATHS), **overrides})
        )

    def test_forward_can_train_save_and_load(self):
        self.train("stream_forward")

    def test_backward_can_train_save_and_load(self):
        self.train("stream_backward")

    def test_bidirectional_can_train_save_and_load(self):
        self.train("sentences_bidirectional")

    def test_batches_are_consistent(self):
        for config in ("stream_forward", "stream_backward", "sentences_bidirectional"):
            self.set_up_model(FIXTURES / "lm" / f"{config}.jsonnet", VALID)
            self.ensure_batch_predictions_are_consistent(keys_to_ignore={"batch_weight"})

    def test_evaluate_gives_the_perplexity_of_the_text(self):
        config = str(FIXTURES / "lm" / "stream_backward.jsonnet")
        train_model_from_file(config, str(self.TEST_DIR / "lm"), overrides=PATHS)
        archive = str(self.TEST_DIR / "lm" / "model.tar.gz")
        output = self.TEST_DIR / "metrics.json"
        evaluate_from_archive(
            archive, VALID, metrics_output_file=str(output), batch_size=1, batch_weight_key="batch_weight"
        )
        metrics = json.loads(output.read_text())

        model = load_archive(archive).model.double()
        vocab = model.vocab
        with open(VALID, encoding="utf-8") as text:
            words = ["<eos>"] + [word for line in text for word in [*line.split(), "<eos>"]]
        ids = [vocab.get_token_index(word) for word in words]
        expected = brute_force_nll(model, ids, "backward") / (len(ids) - 1)
        assert metrics["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
        assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


def small_stream(batch_size, steps, num_lines, **options):
    loader = LmStreamLoader(LmStreamReader(max_instances=num_lines), VALID, batch_size, steps, **options)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    return loader


def read_in_parallel(rank, world_size, setup, perplexity, gradients):
    """One of two processes, which read what one reads with twice as many rows."""
    loader = small_stream(batch_size=2, **setup)
    model = make_model(vocab=loader._vocab, stateful=True)
    parallel = DistributedDataParallel(model)  # it must find every parameter used in every step
    batches = list(loader)
    assert (batches[-1]["targets"] == 0).all().item() == (rank == 1)
    for number, batch in enumerate(batches):
        parallel(**batch)["loss"].backward()
        if number == 0:
            for name, parameter in model.named_parameters():
                close(parameter.grad, gradients[name])
    assert model.get_metrics()["perplexity"] == pytest.approx(perplexity, rel=1e-12)


def test_two_processes_are_one_with_twice_the_rows():
    # 4 rows whose last window has a token in the first row alone, so the second process has none left.
    setup = next(
        {"num_lines": num_lines, "steps": steps}
        for num_lines in range(2, 10)
        for steps in range(3, 9)
        for total in [LmStreamReader(max_instances=num_lines).corpus(VALID).number(len).counts.sum()]
        if total % 4 == 1 and total // 4 % steps == 0
    )
    loader = small_stream(batch_size=4, **setup)
    model = make_model(vocab=loader._vocab, stateful=True)
    gradients = {}
    for number, batch in enumerate(loader):
        model(**batch)["loss"].backward()
        if number == 0:
            gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    perplexity = model.get_metrics()["perplexity"]
    run_in_two_processes(read_in_parallel, setup, perplexity, gradients)
