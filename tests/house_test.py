"""The rules of the house that no linter knows: sizes, line ends, and wording. Run it as a script to print the sizes."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ldnet_allennlp", "ldnet_runtime")
FOLDERS = (
    *PACKAGES,
    "tests",
    "benchmarks",
    "quickstart",
    "docs",
    "training_config",
    "requirements",
    "examples",
    ".github",
)
SUFFIXES = {".py", ".md", ".sh", ".jsonnet", ".libsonnet", ".toml", ".yml", ".yaml", ".cff"}
MAX_FILE, MAX_FOLDER, MAX_CORE, MAX_PACKAGE = 300, 12, 15_000, 18_600
# What LD-Net itself does not need: export, other formats and spellings, and taggers without annotated sentences.
EXTRAS = (
    "export/*",
    "predictors/engines.py",
    "commands/ldnet_export.py",
    "data/annotated/*",
    "data/rule_based_tokenizer.py",
    "data/conll/tag_spelling.py",
    "data/conll/partial_tags.py",
    "commands/annotate/*",
    "commands/ldnet_annotate.py",
    "modules/chunks/*",
    "models/tie_or_break_tagger.py",
)

# Old-fashioned wording of former versions. STYLE: short, active, concrete, present tense.
BANNED = (
    r"(?:is|are|be) not to be had|to be had\b|is had\b",
    r"cost that a \w+ can bear|times as dear",
    r"is to blame|mends (?:it|them)\b|line mends",
    r"\bgoes on (?:training|reading|with what)",
    r"to which a misspelt",
    r"\bat hand when",
    r"who must have\b|whoever (?:has|needs|wants|must)",
    r"does not say the same|says the same",
    r"(?:damage|errors?) (?:is|are) told\b",
    r"predict words beside",
    r"keeps the promise",
    r"what becomes of|what became of",
    r"there is nothing to\b",
    r"the old file is whole",
)


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def lines_of(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def core_files() -> list[Path]:
    package = ROOT / "ldnet_allennlp"
    extras = [set(package.glob(pattern)) for pattern in EXTRAS]
    assert all(extras), "a pattern that matches nothing"
    return [path for path in python_files("ldnet_allennlp") if path not in set().union(*extras)]


def text_files() -> list[Path]:
    folders = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    files = [*ROOT.glob("*"), *folders]
    skipped = {Path(__file__).resolve(), ROOT / "LICENSE"}
    return [
        path
        for path in files
        if path.suffix in SUFFIXES and path.is_file() and path not in skipped and "api" not in path.parts
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_files_fit_on_a_few_screens(package):
    long = {str(path.relative_to(ROOT)): lines_of(path) for path in python_files(package)}
    assert {name: lines for name, lines in long.items() if lines > MAX_FILE} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_are_small(package):
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in python_files(package))
    assert {folder: size for folder, size in sizes.items() if size > MAX_FOLDER} == {}


def test_the_package_is_small():
    assert sum(map(lines_of, core_files())) <= MAX_CORE
    assert sum(map(lines_of, python_files("ldnet_allennlp"))) <= MAX_PACKAGE


def test_files_end_in_one_newline_and_lines_in_no_space():
    for path in text_files():
        text = path.read_bytes()
        assert not text or (text.endswith(b"\n") and not text.endswith(b"\n\n")), path
        if path.suffix != ".md":  # two spaces are a line break there
            assert not re.search(rb"[ \t\r]\n", text), path


def test_no_banned_wording():
    banned = re.compile("|".join(BANNED), re.IGNORECASE)
    hits = []
    for path in text_files():
        text = path.read_text(encoding="utf-8")
        for match in banned.finditer(re.sub(r"\s*\n[ \t]*(?:#|//)?[ \t]*", lambda m: " " * len(m[0]), text)):
            line = text.count("\n", 0, match.start()) + 1
            hits.append(f"{path.relative_to(ROOT)}:{line}: {match[0]}")
    assert hits == []


if __name__ == "__main__":
    for package in PACKAGES:
        files = python_files(package)
        sizes = {path.relative_to(ROOT): lines_of(path) for path in files}
        longest = max(sizes, key=lambda path: sizes[path])
        print(
            f"{package}: {sum(sizes.values())} lines in {len(files)} files; longest: {longest}, {sizes[longest]}"
        )
    print(f"ldnet_allennlp without extras: {sum(map(lines_of, core_files()))} lines")
