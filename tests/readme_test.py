"""
Every command of README.md and of pages in docs/, run: in the order in which they stand there, as they stand there, on
small data and with small networks.
"""

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from allennlp.common import Registrable

import ldnet_allennlp  # noqa: F401
from tests.builders import language_model_archive
from tests.command_lines import allennlp
from tests.resources import FIXTURES, ROOT
from tests.runtime.models import word_model
from tests.training_config_test import LM, NER

PAGES = ["README.md", "docs/layer_selection.md", "docs/tagging.md"]  # the others need corpora of their own
SMALL_LM = {key: value for key, value in LM.items() if key not in ("train", "valid")}
SMALL_NER = {key: value for key, value in NER.items() if key not in ("train", "dev", "test")}
# What makes an environment is run by .ci/run, from an empty one; these come from elsewhere.
OF_ENVIRONMENTS = ("git", "uv", "pip", "cd", "deactivate", "pyenv")
# These make an environment of their own, or run for long: their options must exist.
SCRIPTS = ("./quickstart.sh", "./run_tests.sh")


class Block(NamedTuple):
    """A block of code in a page."""

    page: str
    line: int
    language: str
    text: str


def blocks_of(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def commands_of(block: Block) -> list[str]:
    """Its commands, those of several lines in one. A comment begins a line or stands after blanks."""
    text = block.text.replace("\\\n", " ")
    commands, quoted = [""], False
    for line in text.splitlines():
        commands[-1] += line
        quoted = commands[-1].count("'") % 2 == 1  # the commands quote with these only
        commands.append("") if not quoted else commands.__setitem__(-1, commands[-1] + "\n")
    without_comments = [re.sub(r"(^|\s)#.*", "", command).strip() for command in commands]
    return [command for command in without_comments if command]


class Workplace:
    """A folder with what the commands name, and the variables that they set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {}
        (folder / "training_config").symlink_to(ROOT / "training_config")
        english = folder / "models" / "english"
        english.mkdir(parents=True)
        (english / "ner.onnx").symlink_to(ROOT / "models" / "english" / "ner.onnx")
        for way in ("forward", "backward"):  # small: each step writes an archive with them
            os.replace(language_model_archive(english / way, way), english / f"{way}.tar.gz")
        (folder / "lm").mkdir()
        for name, source in {
            "lm/train.txt.gz": FIXTURES / "lm" / "train.txt",
            "lm/valid.txt": FIXTURES / "lm" / "valid.txt",
            "train.conll": FIXTURES / "tagger" / "train.conll",
            "dev.conll": FIXTURES / "tagger" / "dev.conll",
            "test.conll": FIXTURES / "tagger" / "dev.conll",
            "text.txt": FIXTURES / "lm" / "valid.txt",
            "words.txt": FIXTURES / "lm" / "valid.txt",
        }.items():
            data = source.read_bytes()
            if name.endswith(".gz"):
                data = gzip.compress(data)
            if name == "words.txt":
                data = "\n".join(sorted(set(data.decode().split()))).encode()
            (folder / name).write_bytes(data)
        (folder / "tagger.onnx").write_bytes(word_model())

    def run(self, command: str) -> None:
        program, *rest = shlex.split(command.split("|")[0])
        if program == "export":
            name, _, value = rest[0].partition("=")
            if name == "LDNET_SETTINGS":
                self.settings = json.loads(value)
        elif program == "echo":
            command = command.replace("ldnet-tag", f"{shlex.quote(sys.executable)} -m ldnet_runtime")
            subprocess.run(command, shell=True, check=True, cwd=self.folder)
        elif program == "allennlp":
            self._allennlp(rest)
        elif program == "python":
            self._python(rest)
        elif program == "ldnet-tag":
            if "--serve" not in rest:
                subprocess.run([sys.executable, "-m", "ldnet_runtime", *rest], check=True, cwd=self.folder)
        elif program in SCRIPTS:
            assert (ROOT / program).is_file()
            for option in (word for word in rest if word.startswith("--")):
                assert option in self._help_of_quickstart(), f"{program} has no option {option}"
        else:
            assert program in OF_ENVIRONMENTS, f"nothing is known of the command: {command}"

    def _allennlp(self, arguments: list[str]) -> None:
        if "ldnet-export" in arguments:
            (self.folder / "tagger.onnx").unlink()  # the page uses one before it makes one
        given = dict(self.settings)
        config = next((Path(word).stem for word in arguments if word.endswith(".jsonnet")), "")
        if config.startswith("lm_"):
            given.update(SMALL_LM)
        elif config.startswith("ner"):
            given.update(SMALL_NER)
        if config == "ner_select":
            given["lambda_1"] = 6
        if "ldnet-export" in arguments:  # the file of the workplace is replaced
            arguments = [*arguments, "--force"]
        outcome = self._in_folder(arguments, json.dumps(given))
        assert outcome.status == 0, f"{shlex.join(arguments)}: {outcome.message}\n{outcome.err[-3000:]}"

    def _in_folder(self, arguments: list[str], settings: str) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LDNET_SETTINGS", settings)
            return allennlp(*arguments, folder=self.folder)

    def _python(self, arguments: list[str]) -> None:
        if arguments[0] == "-m":
            module = arguments[1]
            assert module in ("venv", "pip", "ldnet_allennlp", "build"), module
            return
        script = ROOT / arguments[0]
        shown = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT)
        assert shown.returncode == 0, shown.stderr
        for option in (word for word in arguments if word.startswith("--")):
            assert option in shown.stdout, f"{script} has no option {option}"

    def _help_of_quickstart(self) -> str:
        arguments = [sys.executable, "-m", "quickstart", "--help"]
        return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=True).stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return Workplace(tmp_path_factory.mktemp("readme"))


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_run(workplace, page, monkeypatch):
    blocks = list(blocks_of(page))
    assert any(block.language == "bash" for block in blocks)
    monkeypatch.chdir(workplace.folder)
    for block in blocks:
        if block.language == "bash":
            for command in commands_of(block):
                workplace.run(command)
        elif block.language == "python":
            exec(compile(block.text, f"{page}, line {block.line}", "exec"), {})


def test_every_link_leads_somewhere():
    for page in ["README.md", "CHANGELOG.md", *(str(path) for path in (ROOT / "docs").glob("*.md"))]:
        path = ROOT / page
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{page}: {target}"


def registered_names() -> Iterator[tuple[str, str, str]]:
    """Base class, name and file of everything that this package registers."""
    for base, registry in Registrable._registry.items():
        for name, (registered, _) in registry.items():
            if registered.__module__.startswith("ldnet_allennlp."):
                yield base.__name__, name, registered.__module__.replace(".", "/") + ".py"


def test_every_registered_name_is_in_the_table():
    """With a link to the file, whose docstrings describe it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = list(registered_names())
    assert ("Seq2SeqEncoder", "ld_rnn", "ldnet_allennlp/modules/rnn/ld_rnn.py") in found
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    missing = [
        (base, name, file)
        for base, name, file in found
        if not any(base in row.split("|")[1] and f"[`{name}`]({file})" in row for row in rows)
    ]
    assert missing == []
