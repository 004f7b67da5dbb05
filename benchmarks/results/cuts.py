"""
Measure the effect of pruning on the taggers of `run.py` with layer selection, before fine-tuning:

    python benchmarks/results/cuts.py out/results --corpora wnut17 --rows layers-5 layers-2 clamped-2

Compare the tagger with gates and the pruned one: F1 on dev and test, layers left, and, over all words of the test data,
how many tags differ and by how much emissions do. For `layers-N` the two should be the same; for `clamped-N` they
differ by the clamp. A line for each cell goes to `benchmarks/results/cuts.jsonl`.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import numpy  # noqa: E402
import torch  # noqa: E402
from run import LAST, add_to_results, commit  # noqa: E402

import ldnet_allennlp  # noqa: E402, F401
from ldnet_allennlp.commands.sentences import read_text  # noqa: E402
from ldnet_allennlp.commands.sweep.points import scores_of  # noqa: E402
from ldnet_allennlp.common.archives import read_archive, without_progress_messages  # noqa: E402
from ldnet_allennlp.common.verification import outputs_of  # noqa: E402
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "cuts.jsonl"
Outputs = list[dict[str, Any]]


def main() -> None:
    """Measure the cells that are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the folder that run.py wrote; nothing is changed there")
    parser.add_argument("--text", default="modern", help="as of run.py")
    parser.add_argument("--corpora", nargs="+", default=["wnut17"])
    parser.add_argument("--rows", nargs="+", default=["layers-6", "layers-2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    for corpus in args.corpora:
        for row in args.rows:
            for seed in args.seeds:
                with without_progress_messages():
                    measured = measure(args.out / args.text / corpus / row / str(seed))
                line = {"corpus": corpus, "text": args.text, "row": row, "seed": seed, **measured}
                add_to_results(line, RESULTS)
                print(json.dumps(line), flush=True)


def measure(folder: Path) -> dict[str, Any]:
    """What is left of a cell before and after the cut, and how the two differ."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    last = folder / LAST
    archives = {
        "before": str(last if last.exists() else folder / "model.tar.gz"),
        "after": str(folder / "pruned" / "model.tar.gz"),
    }
    found: dict[str, Any] = {}
    outputs: list[Outputs] = []
    for name, path in archives.items():
        archive = read_archive(path)
        sentences = read_text(config["test_data_path"], "conll", archive)
        outputs.append(outputs_in_parts(archive, sentences))
        gates = gates_of(archive.model)
        found[name] = {
            "scores": scores_of(path, config),
            "layers": sum(gate > 0 for stack in gates.values() for gate in stack),
            "gates": gates,
        }
    changed, difference = compare(*outputs)
    return {
        **found,
        "words": sum(map(len, sentences)),
        "tags_changed": changed,
        "largest_difference": difference,
        "commit": commit(),
        "torch": torch.__version__,
    }


def outputs_in_parts(archive: Any, sentences: list[list[str]]) -> Outputs:
    """What a tagger says of each sentence, a few hundred at a time."""
    reader = archive.validation_dataset_reader
    parts = [sentences[start : start + 200] for start in range(0, len(sentences), 200)]
    return [output for part in parts for output in outputs_of(archive.model, reader, part)]


def gates_of(model: torch.nn.Module) -> dict[str, list[float]]:
    """The gates of each direction, which after a cut are those of what is left."""
    return {
        stack.name: [round(gate, 4) for gate in stack.gates.tolist()]
        for module in model.modules()
        if isinstance(module, LdnetEmbedder)
        for stack in module.gated_stacks()
    }


def compare(before: Outputs, after: Outputs) -> tuple[int, float]:
    """How many tags differ, and the largest difference of two emissions."""
    changed, difference = 0, 0.0
    for first, second in zip(before, after):
        changed += sum(one != other for one, other in zip(first["tags"], second["tags"]))
        length = len(first["tags"])
        apart = numpy.subtract(first["logits"][:length], second["logits"][:length])
        difference = max(difference, float(numpy.abs(apart).max()))
    return changed, difference


if __name__ == "__main__":
    main()
