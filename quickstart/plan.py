"""The steps of the quickstart: which `allennlp` command runs when, on what, with which settings."""

import json
import sys
from pathlib import Path
from pydoc_data import topics
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from quickstart.corpus import ABOUT
from quickstart.steps import Step

ROOT = Path(__file__).resolve().parent.parent

# What departs from the configs' defaults, which are the published sizes: these train in minutes on two cores.
SETTINGS: Dict[str, Dict[str, Any]] = {
    "lm": {
        "num_layers": 5,
        "embedding_dim": 64,
        "hidden_size": 64,
        "projection_dim": 128,
        "layer_dropout": 0.2,
        "cutoffs": [1000, 4000],
        "batch_size": 32,
        "learning_rate": 0.003,
        "num_epochs": 4,
    },
    "ner": {
        "word_dim": 50,
        "char_hidden": 50,
        "word_hidden": 80,
        "num_epochs": 12,
        "patience": 5,
    },
    # On few steps: a penalty six times the published one, and three layers where the published taggers keep two.
    "select": {"num_epochs": 10, "lambda_0": 0.3, "lambda_1": 3},
}
MODELS = {
    "ner_vanilla": "without LM",
    "ner": "with LM, unpruned",
    "ner_select": "with LM, gated",
    "pruned": "with LM, pruned",
}


class Data(NamedTuple):
    """Text for the language models (a sentence a line) and CoNLL files for the tagger."""

    lm_train: Path
    lm_valid: Path
    ner_train: Path
    ner_dev: Path
    ner_test: Path
    own_corpus: bool
    vectors: Optional[Path]


def archive(out: Path, model: str) -> Path:
    """Where the archive of a model is."""
    return out / "pruned.tar.gz" if model == "pruned" else out / model / "model.tar.gz"


def evaluation(out: Path) -> Path:
    """Where `allennlp evaluate` writes what it found for the pruned tagger."""
    return out / "evaluation.json"


def plan(out: Path, data: Data, settings: Dict[str, Dict[str, Any]]) -> List[Step]:
    """
    All steps, in the order in which they are worth starting.

    # Parameters

    out : `Path`
        The folder for everything that is made.
    data : `Data`
        What to train on.
    settings : `Dict[str, Dict[str, Any]]`
        The configs' settings: "lm" for both language models, "ner" for the taggers, "select" for layer selection.
    """
    lm = {**settings["lm"], "train": str(data.lm_train), "valid": str(data.lm_valid)}
    files = {"train": str(data.ner_train), "dev": str(data.ner_dev), "test": str(data.ner_test)}
    ner = {**settings["ner"], **files, "vectors": str(data.vectors) if data.vectors else None}
    directions = {f"lm_{name}": str(archive(out, f"lm_{name}")) for name in ("forward", "backward")}
    # Layer selection goes on where the tagger is: its sizes are the tagger's, its epochs and patience its own.
    sizes = {name: value for name, value in ner.items() if name not in {"num_epochs", "patience"}}
    select = {**sizes, **settings["select"], "tagger": str(out / "ner")}
    corpus = [] if data.own_corpus else ["corpus"]
    lm_files, ner_files = [data.lm_train, data.lm_valid], [data.ner_train, data.ner_dev, data.ner_test]
    ner_files += [data.vectors] if data.vectors else []
    lm_archives = [Path(path) for path in directions.values()]

    steps = [] if data.own_corpus else [_corpus(out)]
    for direction in ("forward", "backward"):
        name = f"lm_{direction}"
        steps.append(_train(out, name, f"LM {direction}", lm, lm_files, corpus))
    needs = ["lm_forward", "lm_backward"]
    steps.append(_train(out, "ner", "tagger with LM", {**ner, **directions}, ner_files + lm_archives, needs))
    steps.append(_train(out, "ner_vanilla", "tagger without LM", ner, ner_files, corpus))
    inputs = [*ner_files, archive(out, "ner")]
    steps.append(_train(out, "ner_select", "layer selection", select, inputs, ["ner"]))
    steps.append(_prune(out))
    steps.append(_evaluate(out, data.ner_test))
    steps.append(_predict(out))
    return steps


def _allennlp(*arguments: object) -> List[str]:
    return [str(Path(sys.executable).parent / "allennlp"), *map(str, arguments)]


def _code() -> List[Path]:
    return sorted(ROOT.glob("ldnet_allennlp/**/*.py"))


def _corpus(out: Path) -> Step:
    folder = out / "corpus"
    about = folder / ABOUT
    return Step(
        name="corpus",
        title="text from Python",
        command=[sys.executable, "-m", "quickstart.corpus", str(folder)],
        output=folder,
        result=about,
        inputs=[ROOT / "quickstart" / "corpus.py", ROOT / "quickstart" / "prose.py", Path(topics.__file__)],
        needs=[],
        summary=lambda: about.read_text(encoding="utf-8").partition("\n")[0],
    )


def _train(
    out: Path, name: str, title: str, settings: Dict[str, Any], inputs: List[Path], needs: List[str]
) -> Step:
    config = Path("training_config") / f"{name}.jsonnet"
    return Step(
        name=name,
        title=title,
        command=_allennlp("train", config, "-s", out / name),
        output=out / name,
        result=archive(out, name),
        inputs=[*sorted(ROOT.glob("training_config/*sonnet")), *_code(), *inputs],
        needs=needs,
        settings=settings,
        summary=_best(out / name / "metrics.json"),
    )


def _prune(out: Path) -> Step:
    source = archive(out, "ner_select")
    return Step(
        name="pruned",
        title="pruning",
        command=_allennlp("ldnet-prune", source, archive(out, "pruned")),
        output=archive(out, "pruned"),
        result=archive(out, "pruned"),
        inputs=[source, *_code()],
        needs=["ner_select"],
    )


def _evaluate(out: Path, test: Path) -> Step:
    output = evaluation(out)
    return Step(
        name="evaluation",
        title="testing, pruned",
        command=_allennlp("evaluate", archive(out, "pruned"), test, "--output-file", output),
        output=output,
        result=output,
        inputs=[archive(out, "pruned"), test, *_code()],
        needs=["pruned"],
        summary=_best(output),
    )


def sentences_file(out: Path) -> Path:
    """The sentences that are tagged for the user to read, in the form that `allennlp predict` wants."""
    return out / "sentences.jsonl"


def tagged_file(out: Path) -> Path:
    """What `allennlp predict` made of them."""
    return out / "tagged.jsonl"


def _predict(out: Path) -> Step:
    source, output = sentences_file(out), tagged_file(out)
    return Step(
        name="predict",
        title="three sentences",
        command=_allennlp("predict", archive(out, "pruned"), source, "--output-file", output, "--silent"),
        output=output,
        result=output,
        inputs=[archive(out, "pruned"), source, *_code()],
        needs=["pruned"],
    )


def _best(metrics: Path) -> Callable[[], str]:
    """Says the perplexity or the F1 that a command wrote into a JSON file."""

    def read() -> str:
        found = json.loads(metrics.read_text(encoding="utf-8"))
        for name, said in (
            ("best_validation_perplexity", "perplexity {:.1f}"),
            ("best_validation_f1-measure-overall", "F1 {:.3f} on dev"),
            ("f1-measure-overall", "F1 {:.3f}"),
        ):
            if name in found:
                return said.format(found[name])
        return ""

    return read
