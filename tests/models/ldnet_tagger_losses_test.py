"""The losses of `ldnet_tagger`, by config."""

import itertools

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch
from allennlp.models.archival import load_archive

from ldnet_allennlp.common.archives import write_archive
from tests.taggers import TRAIN, build_tagger, tagger_params

LOSSES = ["negative_log_likelihood", "structured_perceptron", "softmax"]


def build(language_models, **model):
    overrides = {f"model.{name}": value for name, value in model.items()}
    return build_tagger(tagger_params(language_models, overrides={"model.dropout": 0.0, **overrides}))


def batch_of(tagger, size=8):
    return Batch(tagger.instances[:size]).as_tensor_dict()


def fit(tagger, batch, steps):
    """What each step's loss was."""
    tagger.model.train()
    parameters = [parameter for parameter in tagger.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = tagger.model(**batch)["loss"]
        loss.backward()
        assert all(parameter.grad is not None for parameter in parameters)
        optimizer.step()
        losses.append(loss.item())
    tagger.model.eval()
    return losses


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_fits_a_handful_of_sentences(language_models, loss):
    tagger = build(language_models, loss=loss)
    batch = batch_of(tagger)
    losses = fit(tagger, batch, 40)
    assert min(losses) >= 0.0 and losses[-1] < 0.05 * losses[0]
    gold = [row[: len(words)].tolist() for row, words in zip(batch["tags"], tagger.model(**batch)["words"])]
    assert tagger.model(**batch)["tags"] == gold
    assert len({tag for tags in gold for tag in tags}) > 3


def test_the_losses_are_means_over_the_sentences(language_models):
    for loss in LOSSES:
        tagger = build(language_models, loss=loss)
        whole = tagger.model(**batch_of(tagger))["loss"]
        alone = [
            tagger.model(**Batch([instance]).as_tensor_dict())["loss"] for instance in tagger.instances[:8]
        ]
        torch.testing.assert_close(whole, torch.stack(alone).mean())


@pytest.mark.parametrize("constrained", [True, False])
def test_softmax_trains_no_transitions_and_decodes_without_them(language_models, constrained, tmp_path):
    """The best tag of each token, or the best allowed sequence of them."""
    transitions = {"regexes": [["crf.*transitions", {"type": "constant", "val": 3.0}]]}
    tagger = build(
        language_models,
        loss="softmax",
        constrain_crf_decoding=constrained,
        return_logits=True,
        initializer=transitions,
    )
    batch = batch_of(tagger)
    assert not any(parameter.requires_grad for parameter in tagger.model.crf.parameters())
    fit(tagger, batch, 2)
    crf = tagger.model.crf
    assert not any(scores.any() for scores in (crf.transitions, crf.start_transitions, crf.end_transitions))
    with torch.no_grad():  # two steps may have learnt scores whose best tags happen to break no constraint
        torch.manual_seed(3)
        tagger.model.tag_projection_layer._module.weight.normal_(std=3)
    output = tagger.model(**batch)
    allowed = crf._constraint_mask.bool()
    start, end = crf.num_tags, crf.num_tags + 1
    differ = 0
    for logits, kept, tags in zip(output["logits"], output["mask"], output["tags"]):
        greedy = logits[kept].argmax(1).tolist()
        if not constrained:
            assert tags == greedy
        elif len(tags) <= 3:
            paths = [
                path
                for path in itertools.product(range(start), repeat=len(tags))
                if all(allowed[pair] for pair in zip((start, *path), (*path, end)))
            ]
            steps = torch.arange(len(tags))
            scores = torch.stack([logits[steps, torch.tensor(path)].sum() for path in paths])
            assert tags == list(paths[scores.argmax()])
        differ += tags != greedy
    assert (differ > 0) is constrained
    write_archive(str(tmp_path / "model.tar.gz"), tagger.model, tagger.config)
    loaded = load_archive(str(tmp_path / "model.tar.gz"))
    after = loaded.model.eval().forward_on_instances(list(loaded.dataset_reader.read(str(TRAIN)))[:8])
    tags = tagger.model.make_output_human_readable(tagger.model(**batch))["tags"]
    assert [output["tags"] for output in after] == tags


def test_ignoring_o_takes_those_tokens_out_of_every_loss(language_models):
    for loss in LOSSES:
        tagger = build(language_models, loss=loss, ignore_loss_on_o_tags=True)
        batch = batch_of(tagger)
        outside = tagger.model.vocab.get_token_index("O", "labels")
        batch["tags"].fill_(outside)
        assert tagger.model(**batch)["loss"].item() == 0.0
        assert tagger.model(**batch, ignore_loss_on_o_tags=False)["loss"].item() > 0.0


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"loss": "hinge"},
            r"loss .* is 'hinge'; expected one of 'negative_log_likelihood', 'structured_perceptron', 'softmax'",
        ),
        ({"loss": "softmax", "label_weights": {"O": 0.5}}, "'softmax', and there are label_weights"),
        (
            {"loss": "structured_perceptron", "label_weights": {"O": 0.5}},
            "'structured_perceptron', and there are",
        ),
        ({"loss": "softmax", "boundary_tags": ["O", "B-NAME"]}, "'softmax', which has no transitions"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(language_models, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(language_models, **options)
