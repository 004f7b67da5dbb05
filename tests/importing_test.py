"""What importing the package changes in a process: the registry."""

import json
import os
import subprocess
import sys

import pytest

from tests.resources import ROOT

REPORT = """
import json, os, sys, warnings
import allennlp.commands, allennlp_models.tagging, allennlp_models.lm
import torch
before = dict(os.environ), list(warnings.filters), list(sys.argv), list(sys.path), torch.get_num_threads()
import {module}
after = dict(os.environ), list(warnings.filters), list(sys.argv), list(sys.path), torch.get_num_threads()
from allennlp.models import Model
print(json.dumps([[one == other for one, other in zip(before, after)], "ldnet_tagger" in Model.list_available(),
                  os.environ.get("LDNET_SETTINGS")]))
"""


def allennlp(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "LDNET_SETTINGS"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=str(folder),
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.mark.parametrize("module", ["ldnet_allennlp", "ldnet_allennlp.plugin"])
def test_importing_registers_and_changes_nothing_else(tmp_path, module):
    """The plugin of the command line alone sets the settings' default and its warning filters."""
    done = allennlp(tmp_path, "-c", REPORT.format(module=module))
    assert done.returncode == 0, done.stderr
    unchanged, registered, settings = json.loads(done.stdout.splitlines()[-1])
    assert registered
    if module == "ldnet_allennlp":
        assert unchanged == [True] * 5 and settings is None
    else:
        assert unchanged == [False, False, True, True, True] and settings == "{}"


def test_without_the_plugin_the_message_names_the_option(tmp_path):
    """From another folder AllenNLP reads no plugin file, so the settings have no default."""
    config = str(ROOT / "training_config" / "ner_vanilla.jsonnet")
    done = allennlp(tmp_path, "-m", "allennlp", "train", config, "-s", "out")
    assert done.returncode != 0
    assert "pass__include_package_ldnet_allennlp__or_set_LDNET_SETTINGS" in done.stderr
    done = allennlp(
        tmp_path, "-m", "allennlp", "train", config, "-s", "out", "--include-package", "ldnet_allennlp"
    )
    assert done.returncode != 0
    assert "data/train.conll" in done.stderr  # the config's own setting
