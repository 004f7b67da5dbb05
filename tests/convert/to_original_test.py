"""Archives as the original's files, and back."""

from pathlib import Path

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.ldnet_convert import convert, convert_to_original
from ldnet_allennlp.common.torch_files import read_torch_file
from ldnet_allennlp.convert.original_files import read_checkpoint
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from tests.builders import language_model_archive
from tests.convert.originals import (
    CHECKPOINTS,
    LANGUAGE_MODELS,
    TAGGERS,
    instance_of,
    sentences,
    tensors_of,
    words_of_language_model,
)


@pytest.mark.parametrize("name", sorted(LANGUAGE_MODELS))
def test_language_models_come_back_as_they_were(tmp_path, name):
    archive, back = str(tmp_path / "model.tar.gz"), str(tmp_path / "back.th")
    words = words_of_language_model(LANGUAGE_MODELS[name])
    convert(str(CHECKPOINTS / f"{name}.th"), archive, maps=words, direction=LANGUAGE_MODELS[name])
    convert_to_original(archive, back)
    first, second = read_checkpoint(str(CHECKPOINTS / f"{name}.th")).weights, read_checkpoint(back).weights
    assert list(second) == list(first)
    assert all(torch.equal(first[key], second[key]) for key in first)
    # The maps and the options are files of their own, and enough to convert it again.
    again = str(tmp_path / "again.tar.gz")
    convert(back, again, maps=str(tmp_path / "back.test.pk"), direction=LANGUAGE_MODELS[name])
    models = [load_archive(path).model for path in (archive, again)]
    assert models[0].vocab.get_token_to_index_vocabulary() == models[1].vocab.get_token_to_index_vocabulary()
    for key, tensor in models[0].state_dict().items():
        assert torch.equal(models[1].state_dict()[key], tensor)


@pytest.mark.parametrize("name", sorted(TAGGERS))
def test_taggers_come_back_as_they_were(tmp_path, name):
    archive, back, again = (str(tmp_path / file) for file in ("model.tar.gz", "back.th", "again.tar.gz"))
    convert(str(CHECKPOINTS / f"{name}.th"), archive, maps=TAGGERS[name])
    convert_to_original(archive, back)
    # Of every kind a file has its maps in itself: nothing else is needed.
    convert(back, again)
    first, second = load_archive(archive), load_archive(again)
    instances = [instance_of(first.validation_dataset_reader, sentence) for sentence in sentences("dev")]
    outputs = []
    for model in (first.model.eval(), second.model.eval()):
        model.return_logits = True
        with torch.no_grad():
            outputs.append(model(**tensors_of(model, instances)))
    assert torch.equal(outputs[0]["logits"], outputs[1]["logits"])
    assert outputs[0]["tags"] == outputs[1]["tags"]

    original, written = read_torch_file(str(CHECKPOINTS / f"{name}.th")), read_torch_file(back)
    # A gated language model is told from a plain one only in that it has gates.
    gates = {"f_lm.rnn.weight_list", "b_lm.rnn.weight_list"} if name == "ner_basiclm" else set()
    assert set(written["model"]) - gates == set(original["model"])
    for key, tensor in original["model"].items():
        if not key.endswith("embed.weight"):  # rows in another order, which the maps tell
            assert torch.equal(written["model"][key], tensor), key
    if "config" in original:
        assert list(written) == list(original)
        for key, mapping in original.items():
            if key.endswith("_map"):
                weight = {
                    "flm_map": "f_lm.word_embed",
                    "blm_map": "b_lm.word_embed",
                    "gw_map": "word_embed",
                    "c_map": "char_embed",
                    "y_map": "crf.hidden2tag",
                }[key] + ".weight"
                assert set(written[key]) == set(mapping)
                for word, number in mapping.items():
                    row = written["model"][weight][written[key][word]]
                    assert torch.equal(row, original["model"][weight][number])
        config = original["config"]
        for direction in ("forward_lm", "backward_lm"):
            parameters = config[direction]["rnn_params"]
            parameters["droprate"] = -1 if parameters["layer_num"] == 0 else 0.0
        assert written["config"] == config


def test_a_tagger_pruned_here_becomes_a_pruned_checkpoint(tmp_path):
    """The path of ldnet-prune and LightNER together."""
    from ldnet_allennlp.commands.ldnet_prune import prune_archive

    archive, pruned, back = (str(tmp_path / file) for file in ("a.tar.gz", "pruned.tar.gz", "back.th"))
    convert(str(CHECKPOINTS / "ner.th"), archive, maps=TAGGERS["ner"])
    loaded = load_archive(archive)
    embedder = next(module for module in loaded.model.modules() if isinstance(module, LdnetEmbedder))
    for part, gates in zip(embedder.language_models.values(), ([0, 0.4, 0, 1], [0.8, 0, 0, 0.25])):
        part.selection.gates.data.copy_(torch.tensor(gates))
    from ldnet_allennlp.common.archives import write_archive

    write_archive(archive, loaded.model, loaded.config.as_dict(quiet=True))
    prune_archive(archive, pruned, [[word for word, _ in sentence] for sentence in sentences("dev")])
    convert_to_original(pruned, back)
    written, truth = read_checkpoint(back), read_checkpoint(str(CHECKPOINTS / "pner0_fraction.th"))
    for key, tensor in truth.weights.items():
        if not key.endswith("embed.weight"):
            assert torch.equal(written.weights[key], tensor), key


class TestWhatTheOriginalDoesNotHave:
    def test_a_language_model_without_its_conventions(self, tmp_path):
        archive = language_model_archive(tmp_path / "lm")
        with pytest.raises(ConfigurationError, match=r"0 classes beyond its 20 words.*spare_classes: 1"):
            convert_to_original(archive, str(tmp_path / "x.th"))
        both = language_model_archive(tmp_path / "both", direction="bidirectional")
        with pytest.raises(ConfigurationError, match="reads in both directions"):
            convert_to_original(both, str(tmp_path / "x.th"))
        assert not list(tmp_path.glob("x*"))

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"boundary_tags": None}, "no end-of-sentence step"),
            ({"constrain_crf_decoding": True}, "decodes with constraints"),
            ({"encoder": {"type": "gru"}}, "other cells"),
            (
                {"feedforward": {"input_dim": 12, "num_layers": 1, "hidden_dims": 12, "activations": "relu"}},
                "feedforward",
            ),
        ],
    )
    def test_a_tagger_that_is_built_otherwise(self, tmp_path, change, message):
        from allennlp.common import Params
        from allennlp.models import Model

        from ldnet_allennlp.convert.taggers_to_original import tagger_checkpoint

        archive = str(tmp_path / "model.tar.gz")
        convert(str(CHECKPOINTS / "pner0.th"), archive)
        loaded = load_archive(archive)
        section = loaded.config.as_dict(quiet=True)["model"]
        for key, value in change.items():
            section[key] = {**section[key], **value} if key == "encoder" else value
        model = Model.from_params(Params(section), vocab=loaded.model.vocab)
        with pytest.raises(ConfigurationError, match=message):
            tagger_checkpoint(model, loaded.validation_dataset_reader)

    @pytest.mark.parametrize("attribute, value, message", [("end_token", None, "appends no end token")])
    def test_a_reader_that_reads_otherwise(self, tmp_path, attribute, value, message):
        from ldnet_allennlp.convert.taggers_to_original import tagger_checkpoint

        archive = str(tmp_path / "model.tar.gz")
        convert(str(CHECKPOINTS / "pner0.th"), archive)
        loaded = load_archive(archive)
        reader = loaded.validation_dataset_reader
        reader._token_indexers["tokens"].lowercase_tokens = False
        with pytest.raises(ConfigurationError, match="not looked up in lower case"):
            tagger_checkpoint(loaded.model, reader)
        setattr(reader, attribute, value)
        with pytest.raises(ConfigurationError, match=message):
            tagger_checkpoint(loaded.model, reader)


def test_the_output_is_not_replaced_unasked(tmp_path):
    archive, back = tmp_path / "model.tar.gz", tmp_path / "back.th"
    convert(str(CHECKPOINTS / "pner0.th"), str(archive))
    back.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        convert_to_original(str(archive), str(back))
    assert back.read_text() == "mine"
    convert_to_original(str(archive), str(back), force=True)
    assert sorted(Path(tmp_path).iterdir()) == sorted([archive, back])
