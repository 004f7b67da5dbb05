"""Systems without the functions of POSIX, such as Windows."""

import subprocess
import sys

PROGRAM = """
import os, sys
sys.modules["fcntl"] = None
for name in ("pread", "fork", "getppid"):
    delattr(os, name)
import ldnet_allennlp
import ldnet_allennlp.commands
from ldnet_allennlp.data.lm_stream.corpus import Corpus
from ldnet_allennlp.data.lm_stream.shards import read_text
print(read_text(Corpus(sys.argv[1], "<eos>"), sys.argv[2]).token_counts())
"""


def test_the_package_imports_and_reads_text(tmp_path):
    (tmp_path / "text").write_text("a b\na\n")
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "text"), str(tmp_path / "shards")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{'a': 2, 'b': 1, '<eos>': 2}"
