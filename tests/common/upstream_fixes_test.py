"""AllenNLP's classes that need a repaired constructor on current torch and transformers."""

import inspect

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data.token_indexers import PretrainedTransformerMismatchedIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer, Token
from allennlp.training.learning_rate_schedulers import (
    LearningRateScheduler,
    ReduceOnPlateauLearningRateScheduler,
)
from transformers import BertTokenizerFast

from ldnet_allennlp.common import upstream_fixes  # noqa: F401


def test_special_tokens_are_where_they_belong(tmp_path):
    """At the ends of a text's word pieces, once; and no word begins or ends with them."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "##c"]
    (tmp_path / "pieces.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(tmp_path / "pieces.txt")).save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    indexer = PretrainedTransformerMismatchedIndexer(str(tmp_path))
    pieces, offsets = indexer._allennlp_tokenizer.intra_word_tokenize(["abc", "b", "abb"])
    assert [token.text for token in pieces] == ["[CLS]", "a", "##b", "##c", "b", "a", "##b", "##b", "[SEP]"]
    assert offsets == [(1, 3), (4, 4), (5, 7)]
    assert [token.text for token in indexer._allennlp_tokenizer.tokenize("b")] == ["[CLS]", "b", "[SEP]"]
    counter = {}
    indexer.count_vocab_items(Token("abc"), counter)
    assert not counter


def test_signatures_stay():
    """FromParams reads them, and a renamed option would break configs."""
    plateau = inspect.signature(ReduceOnPlateauLearningRateScheduler)
    assert list(plateau.parameters) == [
        *("optimizer", "mode", "factor", "patience", "verbose", "threshold_mode", "threshold"),
        *("cooldown", "min_lr", "eps"),
    ]
    assert list(inspect.signature(PretrainedTransformerTokenizer).parameters)[:2] == [
        "model_name",
        "add_special_tokens",
    ]
    assert LearningRateScheduler.by_name("reduce_on_plateau") is ReduceOnPlateauLearningRateScheduler


def test_plateau_follows_torch():
    """The rate equals that of torch's own scheduler after each metric, and a state survives a save."""
    options = {
        "mode": "max",
        "factor": 0.5,
        "patience": 1,
        "cooldown": 1,
        "threshold_mode": "abs",
        "min_lr": 0.1,
    }
    optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(3)]
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizers[0], **options)
    ours, resumed = (
        LearningRateScheduler.from_params(
            Params({"type": "reduce_on_plateau", "verbose": True, **options}), optimizer=optimizer
        )
        for optimizer in optimizers[1:]
    )
    for step, metric in enumerate([0.1, 0.3, 0.2, 0.2, 0.2, 0.1, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1]):
        reference.step(metric)
        ours.step(metric)
        if step == 4:
            resumed.load_state_dict(ours.state_dict())
            optimizers[2].param_groups[0]["lr"] = optimizers[1].param_groups[0]["lr"]
        if step > 4:
            resumed.step(metric)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        assert rates[0] == rates[1] and (step < 4 or rates[1] == rates[2])
    assert optimizers[1].param_groups[0]["lr"] == 0.125
    with pytest.raises(ConfigurationError, match="validation metric"):
        ours.step()
