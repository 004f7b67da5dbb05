"""
What a user does with archives that were copied from elsewhere, in a process that knows nothing of where they come from:

    python -m tests.fresh_process jobs.json results.json

loads, evaluates, prunes, fine-tunes and predicts in the current folder, and deletes on the way what each step leaves
behind but its result.
"""

import json
import os
import shutil
import sys
import tarfile
from typing import Any

import allennlp_models.structured_prediction  # noqa: F401, registers the parser
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.commands.train import train_model_from_file
from allennlp.models.archival import load_archive

import ldnet_allennlp  # noqa: F401
from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.common.verification import outputs_of

FINE_TUNING = """
local start = import 'start/config.json';
start {
  train_data_path: std.extVar('TRAIN'),
  validation_data_path: std.extVar('EVAL'),
  vocabulary: { type: 'from_files', directory: 'start/vocabulary' },
  model+: { initializer: { regexes: [['.*', { type: 'pretrained', weights_file_path: 'start/weights.th' }]] } },
  trainer: { optimizer: { type: 'sgd', lr: 0.05 }, num_epochs: 1 },
  data_loader: { batch_size: 4 },
}
"""


def use(archive: str, data: str, sentences: list[list[str]]) -> dict[str, Any]:
    """What a model says, and its scores."""
    loaded = load_archive(archive)
    return {
        "outputs": outputs_of(loaded.model, loaded.validation_dataset_reader, sentences),
        "metrics": evaluate_from_archive(archive, data),
    }


def fine_tune(archive: str, train: str, data: str) -> str:
    """Trains on with the archive's own config and weights."""
    with tarfile.open(archive) as file:
        file.extractall("start")
    with open("fine_tuning.jsonnet", "w") as config:
        config.write(FINE_TUNING)
    os.environ.update(TRAIN=train, EVAL=data)
    train_model_from_file("fine_tuning.jsonnet", "run")
    os.rename("run/model.tar.gz", "tuned.tar.gz")
    shutil.rmtree("start")
    shutil.rmtree("run")
    return "tuned.tar.gz"


def run(archive: str, data: str, train: str, sentences: list[list[str]]) -> dict[str, Any]:
    """All steps for one archive."""
    results: dict[str, Any] = {"copy": use(archive, data, sentences)}
    prune_archive(archive, "pruned.tar.gz", sentences, trust=True)
    os.remove(archive)
    results["pruned"] = use("pruned.tar.gz", data, sentences)
    before = load_archive("pruned.tar.gz").model.state_dict()
    tuned = fine_tune("pruned.tar.gz", train, data)
    os.remove("pruned.tar.gz")
    results["tuned"] = use(tuned, data, sentences)
    after = load_archive(tuned).model.state_dict()
    results["unchanged"] = [name for name in before if torch.equal(before[name], after[name])]
    results["layers"] = sum(name.endswith("weight_hh_l0") for name in after if ".language_models." in name)
    return results


if __name__ == "__main__":
    with open(sys.argv[1]) as jobs_file:
        jobs = json.load(jobs_file)
    all_results = [run(**job) for job in jobs]
    with open(sys.argv[2], "w") as results_file:
        json.dump(all_results, results_file)
