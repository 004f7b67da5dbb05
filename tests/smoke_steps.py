"""
The steps of `smoke.sh`: doctor, train, prune and predict, in a directory outside the repository.

    python smoke_steps.py FOLDER     (the environment's interpreter; the package is the installed one)
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
TAGGER: dict[str, Any] = {
    "train": str(FIXTURES / "tagger" / "train.conll"),
    "dev": str(FIXTURES / "tagger" / "dev.conll"),
    "test": None,
    "lm_forward": "lm_forward/model.tar.gz",
    "lm_backward": "lm_backward/model.tar.gz",
    **{"word_dim": 6, "char_dim": 4, "char_hidden": 5, "word_hidden": 7, "num_epochs": 2},
}
LANGUAGE_MODEL: dict[str, Any] = {
    "train": str(FIXTURES / "lm" / "train.txt"),
    "valid": str(FIXTURES / "lm" / "valid.txt"),
    **{"min_count": 2, "num_layers": 3, "embedding_dim": 6, "hidden_size": 5, "projection_dim": 8},
    **{"cutoffs": [10, 30], "batch_size": 4, "num_epochs": 2},
}
INCLUDE = ["--include-package", "ldnet_allennlp"]


def run(folder: Path, *arguments: str, **settings: Any) -> str:
    """Runs `python -m ...` in `folder`, with the settings of a config; its standard output."""
    started = time.perf_counter()
    # Only the installed packages count, not the checkout or the caller's path. Byte code is kept: otherwise each start
    # takes many seconds more.
    dropped = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment.update(LDNET_SETTINGS=json.dumps(settings), PYTHONWARNINGS="ignore", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=str(folder),
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    print(f"   {time.perf_counter() - started:5.1f} s  {' '.join(arguments)[:90]}", flush=True)
    if done.returncode != 0:
        sys.exit(f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    assert "nltk_data" not in done.stderr, "a download was tried: " + done.stderr
    return done.stdout


def words_and_tags(path: Path) -> list[Any]:
    """The words and tags in a file of predictions."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["words"], line["tags"]) for line in lines]


def main(folder: Path) -> None:
    """All steps; exits with the message of one that fails."""
    folder.mkdir(parents=True)
    print(run(folder, "ldnet_allennlp", "doctor"))
    pins = (FIXTURES.parent / "requirements" / "requirements.txt").read_text(encoding="utf-8")
    assert run(folder, "ldnet_allennlp", "requirements") == pins
    run(folder, "ldnet_allennlp", "configs", "configs")  # those of the wheel
    for direction in ("forward", "backward"):
        config = f"configs/lm_{direction}.jsonnet"
        run(folder, "allennlp", "train", config, "-s", f"lm_{direction}", *INCLUDE, **LANGUAGE_MODEL)
    run(folder, "allennlp", "train", "configs/ner.jsonnet", "-s", "ner", *INCLUDE, **TAGGER)
    # All six layers may stay: models of this size learn nothing.
    selection = {**TAGGER, "tagger": "ner", "lambda_1": 6}
    run(folder, "allennlp", "train", "configs/ner_select.jsonnet", "-s", "select", *INCLUDE, **selection)
    (folder / ".allennlp_plugins").write_text("ldnet_allennlp.plugin\n", encoding="utf-8")
    # It compares the pruned tagger with the gated one before it writes.
    run(folder, "allennlp", "ldnet-prune", "select/model.tar.gz", "pruned/", "--keep", "2")
    sentences = ["the list of a class", "python returns the value"]
    (folder / "in.jsonl").write_text("".join(json.dumps({"sentence": text}) + "\n" for text in sentences))
    for archive in ("select", "pruned"):
        options = ["in.jsonl", "--silent", "--output-file", f"{archive}.jsonl", *INCLUDE]
        run(folder, "allennlp", "predict", f"{archive}/model.tar.gz", *options)
    for archive in ("select", "pruned"):
        tagged = words_and_tags(folder / f"{archive}.jsonl")
        assert [" ".join(words) for words, _ in tagged] == sentences, tagged
        assert all(len(words) == len(tags) for words, tags in tagged), tagged
    # The exported tagger needs neither torch nor AllenNLP.
    run(folder, "allennlp", "ldnet-export", "pruned/model.tar.gz", "tagger.onnx")
    (folder / "runtime.jsonl").write_text(
        run(folder, "ldnet_runtime", "tagger.onnx", "in.jsonl"), encoding="utf-8"
    )
    assert words_and_tags(folder / "runtime.jsonl") == words_and_tags(folder / "pruned.jsonl")
    sizes = [(folder / archive / "model.tar.gz").stat().st_size for archive in ("select", "pruned")]
    assert sizes[1] < sizes[0], "pruning removed nothing"


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
