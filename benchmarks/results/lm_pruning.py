"""
Cuts layers out of the language models that `language_models.py` trained, with and without layer-wise dropout:

    python benchmarks/results/lm_pruning.py out/results_lm

Every set of layers is cut, in two ways: `hidden`, from the layers above it only, which is what layer-wise dropout does
in training (the output, and so the projection before the softmax, still has the real vectors; nothing is rescaled,
neither in training nor here); and `cut`, for good: zeros for the projection, too. Nothing is trained after it, so `cut`
is the language model's own loss, with a projection that never saw such zeros.

`gates` are sets that layer selection chooses, by the language model's loss on the validation text of ELTeC: budgets
that fall layer by layer, gates that start at 1 with each budget, and a weight of the penalty that grows until the
budget is kept. `refitted` is the perplexity after the projection alone was trained a little on that text: for the uncut
model, too. (The projection of a tagger is trained after the cut.)

With `--left`, only sets that leave this many layers are measured, and gates choose none. For the English language
models, with and without `few_layers`, the lines are in `benchmarks/results/few_layers.jsonl`:

    python benchmarks/results/lm_pruning.py out/english --left 8 4 2 1 --rows ordinary few-layers --test test.txt

Perplexities are of the first sentences of a test text, by default ELTeC's. A line for each model goes to
`benchmarks/results/lm_pruning.jsonl`; `tables.py` makes table and plot.
"""

import argparse
import itertools
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from allennlp.common import Params  # noqa: E402
from allennlp.training.optimizers import Optimizer  # noqa: E402
from language_models import endless, indexed, perplexity  # noqa: E402
from run import DATA, add_to_results, commit  # noqa: E402

from ldnet_allennlp.common.archives import read_archive  # noqa: E402
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader  # noqa: E402
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader  # noqa: E402
from ldnet_allennlp.modules.selection.layer_budget import LayerBudget  # noqa: E402
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "lm_pruning.jsonl"
FEW_LAYERS = RESULTS.with_name("few_layers.jsonl")
BATCH_SIZE, SEQUENCE_LENGTH = 32, 20
GATES = {"lr": 0.05, "momentum": 0.9, "lambda_0": 0.02, "growth": 1.08, "over_budget_weight": 2.0}
REFIT = {"windows": 50, "lr": 0.002}


def main() -> None:
    """Measure the models that are there and not done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the folder that language_models.py wrote")
    parser.add_argument("--rows", nargs="+", default=["ld-rnn", "ld-rnn-plain"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--left", type=int, nargs="+", help="measure only the sets that leave this many layers"
    )
    parser.add_argument("--sentences", type=int, default=400, help="how many of the test text")
    parser.add_argument("--test", default=str(DATA / "lm" / "eltec" / "test.txt"))
    parser.add_argument("--valid", default=str(DATA / "lm" / "eltec" / "valid.txt"))
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for seed in args.seeds:
        for row in args.rows:
            cell = args.out / row / str(seed) / "pruning.json"
            if not cell.exists():
                line = {"row": row, "seed": seed, **measure(args, str(cell.parent / "model.tar.gz"), seed)}
                cell.write_text(json.dumps(line), encoding="utf-8")
            line = json.loads(cell.read_text(encoding="utf-8"))
            add_to_results(line, FEW_LAYERS if args.left else RESULTS, ("row", "seed"))
            print(json.dumps(line), flush=True)


def measure(args: argparse.Namespace, archive: str, seed: int) -> dict[str, Any]:
    """All cuts of a model."""
    torch.manual_seed(seed)
    model = read_archive(archive).model
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    reader = LmStreamReader(max_instances=args.sentences)
    test = indexed(LmStreamLoader(reader, args.test, BATCH_SIZE, SEQUENCE_LENGTH), model.vocab)
    words = sum(int(batch["targets"].count_nonzero()) for batch in test)
    numbers = range(model._contextualizer.num_layers)
    left = range(len(numbers), -1, -1) if args.left is None else args.left
    cuts = [
        {
            "layers": [number + 1 for number in layers],
            "hidden": perplexity_without(model, layers, test, False),
            "cut": perplexity_without(model, layers, test, True),
        }
        for count in left
        for layers in itertools.combinations(numbers, len(numbers) - count)
    ]
    line: dict[str, Any] = {"sentences": args.sentences, "words": words, "cuts": cuts}
    if args.left is None:
        valid = indexed(
            LmStreamLoader(LmStreamReader(), args.valid, BATCH_SIZE, SEQUENCE_LENGTH), model.vocab
        )
        line["gates"] = [
            {
                "layers": [number + 1 for number in layers],
                "cut": perplexity_without(model, layers, test, True),
                "refitted": perplexity_refitted(model, layers, valid, test),
            }
            for layers in [[], *choose_by_gates(model, valid)]
        ]
    settings = {"gates": GATES, "refit": REFIT, "batch": [BATCH_SIZE, SEQUENCE_LENGTH]}
    return {**line, "settings": settings, "commit": commit(), "torch": torch.__version__}


def cut(model: Any, layers: Sequence[int], for_good: bool) -> None:
    """Make the columns 0, in place, that read layers (from 0): in those above them and, for good, the projection."""
    encoder = model._contextualizer
    with torch.no_grad():
        for number in layers:
            start = encoder.input_size + number * encoder.hidden_size
            columns = slice(start, start + encoder.hidden_size)
            for above in encoder.stacks[0].layers[number + 1 :]:
                above.weight_ih_l0[:, columns] = 0.0
            if for_good:
                model._projection.weight[:, columns] = 0.0


class Restored:
    """Puts a model's weights back at the end of a `with` block."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: Any) -> None:
        self.model.load_state_dict(self.weights)


def perplexity_without(model: Any, layers: Sequence[int], batches: Any, for_good: bool) -> float:
    """The perplexity after `cut`."""
    with Restored(model):
        cut(model, layers, for_good)
        return round(perplexity(model, batches), 3)


def perplexity_refitted(model: Any, layers: Sequence[int], text: Any, batches: Any) -> float:
    """The perplexity after `cut` for good, and some training of the projection."""
    with Restored(model):
        cut(model, layers, True)
        weight = model._projection.weight.requires_grad_(True)
        optimizer = torch.optim.Adam([weight, model._projection.bias.requires_grad_(True)], lr=REFIT["lr"])
        windows = itertools.islice(endless(lambda: iter(text)), int(REFIT["windows"]))
        for number, batch in enumerate(windows):
            for group in optimizer.param_groups:
                group["lr"] = REFIT["lr"] * (1 - number / REFIT["windows"])
            optimizer.zero_grad()
            model(**batch)["loss"].backward()
            optimizer.step()
            cut(model, layers, True)  # Adam has no gradient there, but momenta of what was there before
        for parameter in (weight, model._projection.bias):
            parameter.requires_grad_(False)
        return round(perplexity(model, batches), 3)


def choose_by_gates(model: Any, text: Any) -> Iterator[list[int]]:
    """What layer selection cuts, for budgets from all layers but one to one layer."""
    model.eval()
    encoder = model._contextualizer
    selection = LayerSelection(encoder, lambda_0=GATES["lambda_0"])
    model._contextualizer = selection
    windows = endless(lambda: iter(text))
    try:
        for budget in range(encoder.num_layers - 1, 0, -1):
            if int((selection.gates > 0).sum()) <= budget:
                continue  # more than one fell at once
            reach_budget(model, selection, budget, windows)
            yield [number for number, gate in enumerate(selection.gates.tolist()) if gate == 0]
    finally:
        model._contextualizer = encoder


def reach_budget(model: Any, selection: LayerSelection, budget: int, windows: Iterator[Any]) -> None:
    """Train the gates until no more are left than the budget allows."""
    selection.budget = LayerBudget(budget, over_budget_weight=GATES["over_budget_weight"])
    selection.lambda_0 = GATES["lambda_0"]
    sgd = {"type": "sgd", "lr": GATES["lr"], "momentum": GATES["momentum"]}
    optimizer = Optimizer.from_params(
        Params({"type": "proximal", "optimizer": sgd, "zeros_stay": True}),
        model_parameters=[("gates", selection.gates)],
    )
    while int((selection.gates > 0).sum()) > budget:
        optimizer.zero_grad()
        (model(**next(windows))["loss"] + selection.penalty()).backward()
        optimizer.step()
        selection.lambda_0 *= GATES["growth"]
    with torch.no_grad():
        selection.gates.copy_((selection.gates > 0).to(selection.gates.dtype))


if __name__ == "__main__":
    main()
