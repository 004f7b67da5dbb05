"""
Says what is wrong with an environment in which AllenNLP cannot be imported, and which line repairs it.

`python -m ldnet_allennlp doctor` prints it, and `import ldnet_allennlp` raises it. Nothing but the standard library is
imported here: any other package may be what is broken. The rules are what was seen to fail with AllenNLP 2.10.1.
"""

import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

LEGACY = sys.version_info < (3, 11)
"""Whether this Python can have AllenNLP's own pins; later ones have `requirements/requirements.txt`."""

SHOWN = (
    *("allennlp", "allennlp-models", "torch", "torchvision", "numpy", "spacy", "thinc", "pydantic"),
    *("typing_extensions", "transformers", "huggingface_hub", "protobuf", "setuptools", "overrides"),
)

IMPORTED = (
    *(
        "numpy",
        "torch",
        "torchvision",
        "pkg_resources",
        "overrides",
        "transformers",
        "spacy",
        "allennlp.commands",
    ),
    *("allennlp_models.tagging", "allennlp_models.lm", "ldnet_allennlp"),
)
"""What `doctor` tries to import, in this order."""

Version = Tuple[int, ...]


def runs_as_program() -> bool:
    """
    Whether Python is looking for `python -m ldnet_allennlp`, which needs none of the components. Python 3.8 and 3.9
    cannot tell; they import what they can.
    """
    words = getattr(sys, "orig_argv", [])
    after = words[words.index("-m") + 1 :] if "-m" in words else []
    return sys.argv[:1] == ["-m"] and after[:1] == ["ldnet_allennlp"]


class Problem(NamedTuple):
    """What is wrong, as a sentence, and the line that repairs it."""

    what: str
    fix: str


def installed(package: str) -> str:
    """The version of a package by its metadata, "" where it is not installed."""
    try:
        return metadata.version(package) or ""
    except metadata.PackageNotFoundError:
        return ""


def is_there(module: str) -> bool:
    """Whether a module can be found. Of one that was removed, a folder with compiled files may be left."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.has_location


def numbers(version: str) -> Version:
    """`(2, 6, 0)` for "2.6.0+cu124"; `()` where nothing is installed, which is less than any version."""
    found: List[int] = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
        if digits != part:
            break  # "0rc1": what follows counts for nothing here
    return tuple(found)


def install_line(*packages: str, dependencies: bool = False) -> str:
    """The command that installs `packages` here. Environments that uv made have no pip."""
    has_pip = is_there("pip")
    start = f"{sys.executable} -m pip install" if has_pip else f"uv pip install --python {sys.executable}"
    quoted = " ".join(f"'{package}'" for package in packages)
    return f"{start} {'' if dependencies else '--no-deps '}{quoted}"


def reinstall_lines() -> str:
    """What installs everything anew: AllenNLP's pins with their bounds, or the pinned file."""
    if LEGACY:
        return install_line("allennlp==2.10.1", "allennlp-models==2.10.1", *bounds(), dependencies=True)
    pinned = install_line("-r", "requirements.txt").replace("'", "")
    return f"{sys.executable} -m ldnet_allennlp requirements > requirements.txt && {pinned}"


def bounds() -> List[str]:
    """The bounds that this package's metadata adds to AllenNLP's, those of this Python; none without metadata."""
    try:
        declared = metadata.requires("ldnet-allennlp") or []
    except metadata.PackageNotFoundError:
        return ["numpy<2", "setuptools<80.9", "typing_extensions<4.6", "pyarrow<21"]
    return [
        line.split(";")[0].strip() for line in declared if 'python_version < "3.11"' in line.replace("'", '"')
    ]


def wrong_python() -> Optional[Problem]:
    """AllenNLP's dependencies have wheels for Python 3.8 to 3.13."""
    if (3, 8) <= sys.version_info[:2] <= (3, 13):
        return None
    return Problem(
        f"Python {sys.version.split()[0]} runs here; AllenNLP 2.10.1 and what it needs work with Python 3.8 to 3.13.",
        "uv venv --python 3.11 .venv    # or: python3.11 -m venv .venv",
    )


def wrong_allennlp() -> Optional[Problem]:
    """AllenNLP and its models, both 2.10.x from 2.10.1 on."""
    for package in ("allennlp", "allennlp-models"):
        version = installed(package)
        if not version:
            return Problem(f"{package} is not installed; 2.10.1 is needed.", reinstall_lines())
        if not (2, 10, 1) <= numbers(version) < (2, 11):
            return Problem(
                f"{package} {version} is installed; 2.10.1 is needed.", install_line(f"{package}==2.10.1")
            )
    return None


def wrong_torch() -> Optional[Problem]:
    """torch from 1.10 on."""
    version = installed("torch")
    if numbers(version) >= (1, 10):
        return None
    found = f"torch {version} is installed" if version else "torch is not installed"
    wanted = ("torch==1.12.1", "torchvision==0.13.1") if LEGACY else ("torch==2.6.0", "torchvision==0.21.0")
    return Problem(f"{found}; 1.10 or later is needed.", install_line(*wanted, dependencies=True))


def wrong_torchvision() -> Optional[Problem]:
    """The torchvision that was compiled for this torch: 0.(n + 1) for torch 1.n, 0.(n + 15) for torch 2.n."""
    torch, torchvision = installed("torch"), installed("torchvision")
    release = numbers(torch)[:2]
    if len(release) < 2 or release[0] not in (1, 2):
        return None
    wanted = (0, release[1] + (1 if release[0] == 1 else 15))
    if numbers(torchvision)[:2] == wanted:
        return None
    found = f"torchvision {torchvision} is installed" if torchvision else "torchvision is not installed"
    name = "{}.{}".format(*wanted)
    return Problem(
        f"{found}; AllenNLP imports it, and torch {torch} needs torchvision {name}.",
        install_line(f"torchvision=={name}.*"),
    )


def wrong_numpy() -> Optional[Problem]:
    """Compiled code for numpy 1 does not run with numpy 2."""
    numpy = installed("numpy")
    if not numpy:
        return Problem("numpy is not installed.", install_line("numpy<2" if LEGACY else "numpy<2.3"))
    if numbers(numpy) < (2,):
        return None
    for package, first in (("torch", (2, 3)), ("thinc", (8, 3)), ("spacy", (3, 8))):
        version = installed(package)
        if not version or numbers(version) >= first:
            continue
        fix = install_line("numpy<2")
        if package != "torch" and not LEGACY:
            fix = install_line("spacy>=3.8,<4", dependencies=True)
        return Problem(f"{package} {version} is compiled for numpy 1; numpy {numpy} is installed.", fix)
    return None


def wrong_spacy() -> Optional[Problem]:
    """spaCy is imported by `import allennlp`; spaCy 3.3 has pydantic 1.8, which trips over newer annotations."""
    if not installed("spacy"):
        wanted = "spacy>=3.3,<3.4" if LEGACY else "spacy>=3.8,<4"
        return Problem(
            "spacy is not installed; AllenNLP imports it.", install_line(wanted, dependencies=True)
        )
    pydantic, typing = installed("pydantic"), installed("typing_extensions")
    if numbers(installed("spacy")) < (3, 7) and numbers(pydantic) >= (2,):
        return Problem(
            f"spacy {installed('spacy')} does not run with pydantic {pydantic}.", install_line("pydantic<1.9")
        )
    if sys.version_info < (3, 10) and () < numbers(pydantic) < (1, 10, 8) and numbers(typing) >= (4, 6):
        return Problem(
            f"pydantic {pydantic}, which spaCy uses, cannot read typing_extensions {typing} on this Python"
            ' ("issubclass() arg 1 must be a class").',
            install_line("typing_extensions<4.6"),
        )
    return None


def wrong_setuptools() -> Optional[Problem]:
    """
    allennlp_models (through rouge) imports `pkg_resources`, which setuptools 82 does not have. AllenNLP then goes on
    without a part of it, and says so in a line of its log.
    """
    if is_there("pkg_resources"):
        return None
    setuptools = installed("setuptools")
    found = f"setuptools {setuptools} is without it" if setuptools else "setuptools is not installed"
    return Problem(
        f"There is no pkg_resources, which allennlp_models imports: {found}.",
        install_line("setuptools<80.9"),
    )


def wrong_transformers() -> Optional[Problem]:
    """AllenNLP subclasses `transformers.AdamW`, which later releases do not have."""
    transformers, hub = installed("transformers"), installed("huggingface_hub")
    wanted = "transformers<4.21" if LEGACY else "transformers>=4.44,<4.46"
    if not transformers:
        return Problem(
            "transformers is not installed; AllenNLP imports it.", install_line(wanted, dependencies=True)
        )
    if numbers(transformers) >= (4, 50):
        return Problem(
            f"transformers {transformers} is installed, and AllenNLP 2.10.1 uses what it has dropped (AdamW).",
            install_line(wanted, dependencies=True),
        )
    if numbers(hub) >= (1,):
        return Problem(
            f"transformers {transformers} refuses huggingface_hub {hub}.", install_line("huggingface_hub<1")
        )
    return None


def missing_overrides() -> Optional[Problem]:
    """The package `overrides`, which this one uses and AllenNLP does not."""
    if is_there("overrides"):
        return None
    return Problem("overrides is not installed.", install_line("overrides"))


RULES: Tuple[Callable[[], Optional[Problem]], ...] = (
    *(wrong_python, wrong_allennlp, wrong_torch, wrong_torchvision, wrong_numpy, wrong_spacy),
    *(wrong_setuptools, wrong_transformers, missing_overrides),
)


def problems() -> List[Problem]:
    """What the versions of the installed packages show; nothing is imported for it."""
    return [problem for rule in RULES for problem in [rule()] if problem]


def diagnosis(found: List[Problem]) -> str:
    """The problems as text, each with the line that repairs it."""
    lines = []
    for problem in found:
        lines += [f"* {problem.what}", f"      {problem.fix}"]
    return "\n".join(lines)


IMPORT_IN_TURN = """
import importlib, sys
for name in sys.argv[1:]:
    print(name, flush=True)
    importlib.import_module(name)
print("")
"""


def import_problem() -> Optional[Problem]:
    """Imports everything in a process of its own: the first module that fails, if one does."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT_IN_TURN, *IMPORTED],
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode == 0:
        return None
    module = ["", *(line for line in done.stdout.splitlines() if line in IMPORTED)][-1]
    lines = [f"exit status {done.returncode}", *done.stderr.strip().splitlines()]
    # The line with the error; some packages add others, with advice that does not fit here.
    reason = [lines[-1], *(line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line))][-1]
    return Problem(f"`import {module}` fails: {reason}", reinstall_lines())


def nltk_hint() -> str:
    """AllenNLP imports all of allennlp_models for `--help` and for plugins' commands, which asks for nltk's data."""
    places = [
        Path(sys.prefix) / "nltk_data",
        Path.home() / "nltk_data",
        Path(sys.prefix) / "share" / "nltk_data",
    ]
    if not installed("nltk") or any((place / "tokenizers" / "punkt").exists() for place in places):
        return ""
    return (
        'Not a problem, but allennlp_models asks the network for nltk\'s "punkt" at each start, which nothing here\n'
        f"reads. An empty folder ends that:\n      mkdir -p {places[0]}/tokenizers/punkt\n"
    )


def examine() -> Tuple[str, bool]:
    """The whole report, and whether the environment works. Takes as long as importing AllenNLP does."""
    versions = [f"{package} {installed(package) or '(not installed)'}" for package in SHOWN]
    lines = [f"Python {sys.version.split()[0]} at {sys.executable}", ", ".join(versions), ""]
    found = problems()
    if not found:
        failed = import_problem()
        found = [failed] if failed else []
    if found:
        return "\n".join([*lines, "What is wrong, and what repairs it:", diagnosis(found)]), False
    return "\n".join([*lines, "Everything imports: this environment works.", nltk_hint()]).rstrip(), True
