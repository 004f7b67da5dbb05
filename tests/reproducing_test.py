"""The commands of docs/reproducing.md, with small networks, on corpora in the layouts of CoNLL 2003 and CoNLL 2000."""

import json
import subprocess

import pytest

from tests.command_lines import allennlp
from tests.readme_test import SMALL_NER, blocks_of, commands_of
from tests.resources import DATA, ROOT, needs_data
from tests.taggers import build_language_models

SEC, CHUNKS = DATA / "ner" / "sec_filings", DATA / "chunk" / "masc_911_chapter10.txt"
# By a word that only the commands of that corpus have: the user's own files, and what stands for them.
CORPORA = {
    # FIN3 stands for testa, too.
    "eng.train": {
        "eng.train": SEC / "FIN5.txt",
        "eng.testa": SEC / "FIN3.txt",
        "eng.testb": SEC / "FIN3.txt",
    },
    "np.train": {"np.train": CHUNKS, "np.dev": CHUNKS, "test.txt": CHUNKS},
}


def shell_blocks(word):
    blocks = [block for block in blocks_of("docs/reproducing.md") if block.language == "bash"]
    return [block for block in blocks if word in block.text]


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("corpus", CORPORA)
def test_the_tagger_commands_run(corpus, tmp_path, monkeypatch):
    (tmp_path / "training_config").symlink_to(ROOT / "training_config")
    for name, source in CORPORA[corpus].items():
        (tmp_path / name).symlink_to(source)
    small = {
        **SMALL_NER,
        **build_language_models(tmp_path / "lm")._asdict(),
        "word_dim": 50,
        # Those of the project's corpora.
        "vectors": str(DATA / "vectors" / "eltec_openstax.50d.txt.gz"),
    }
    blocks = [block for block in shell_blocks(corpus) if "allennlp ldnet-prune" in block.text]
    assert len(blocks) == 1
    settings, outcomes = {}, []
    for command in commands_of(blocks[0]):
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
    (selected,) = (tmp_path / "out").glob("*_select")
    metrics = json.loads((selected / "metrics.json").read_text())
    shown = f"f1-measure-overall: {metrics['test_f1-measure-overall']}"
    assert shown in outcomes[-1].out + outcomes[-1].err  # of the pruned one


def test_the_sentences_that_are_held_out(tmp_path):
    sentences = [f"w{number} NN B-NP\n, , O\n" for number in range(8936)]
    (tmp_path / "train.txt").write_text("\n".join(sentences) + "\n")
    (block,) = [block for block in shell_blocks("np.dev") if "awk" in block.text]
    subprocess.run(block.text, shell=True, check=True, cwd=tmp_path)
    parts = [(tmp_path / name).read_text() for name in ("np.train", "np.dev")]
    assert [part.count("NN") for part in parts] == [7936, 1000]
    assert "".join(parts).split() == "".join(sentences).split()
    assert all(len(sentence.splitlines()) == 2 for sentence in "".join(parts).strip().split("\n\n"))
