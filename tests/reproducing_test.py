"""The commands of docs/reproducing.md, with small networks, on a corpus in the layout of CoNLL 2003."""

import json

from tests.command_lines import allennlp
from tests.common import DATA, ROOT, needs_data
from tests.readme_test import SMALL_NER, blocks_of, commands_of
from tests.taggers import build_language_models

SEC = DATA / "ner" / "sec_filings"


@needs_data
def test_the_tagger_commands_run(tmp_path, monkeypatch):
    (tmp_path / "training_config").symlink_to(ROOT / "training_config")
    # FIN3 stands for testa, too; the vectors are those of the project's corpora.
    for name, source in {"eng.train": "FIN5.txt", "eng.testa": "FIN3.txt", "eng.testb": "FIN3.txt"}.items():
        (tmp_path / name).symlink_to(SEC / source)
    archives = build_language_models(tmp_path / "lm")._asdict()
    small = {
        **SMALL_NER,
        **archives,
        "word_dim": 50,
        "vectors": str(DATA / "vectors" / "eltec_openstax.50d.txt.gz"),
    }
    (commands,) = [
        commands_of(block)
        for block in blocks_of("docs/reproducing.md")
        if block.language == "bash" and "eng.train" in block.text
    ]
    settings, outcomes = {}, []
    for command in commands:
        words = command.split()
        if words[0] == "export":
            settings = json.loads(command.partition("=")[2].strip("'"))
            continue
        given = {**settings, **small, "num_epochs": 1, "batch_size": 50}
        if "ner_select.jsonnet" in command:
            given["lambda_1"] = 8  # of 8: an epoch is not enough to come below
        monkeypatch.setenv("LDNET_SETTINGS", json.dumps(given))
        outcomes.append(allennlp(*words[1:], folder=tmp_path))
        assert outcomes[-1].status == 0, f"{command}: {outcomes[-1].message}\n{outcomes[-1].err[-2000:]}"
    metrics = json.loads((tmp_path / "out" / "conll03_select" / "metrics.json").read_text())
    shown = f"f1-measure-overall: {metrics['test_f1-measure-overall']}"
    assert shown in outcomes[-1].out + outcomes[-1].err  # of the pruned one
