"""
Compare the environment with the pinned requirements and print the command that repairs it.

`python -m ldnet_allennlp doctor` prints the report, and `import ldnet_allennlp` raises it if a package is broken. This
module imports only the standard library, because any other package may be broken.
"""

import importlib
import re
import sys
from importlib import metadata, util
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PYTHONS = ((3, 11), (3, 14))
SHOWN = (
    "allennlp",
    "allennlp-models",
    "torch",
    "torchvision",
    "numpy",
    "spacy",
    "transformers",
    "setuptools",
)
# allennlp_models' rouge imports pkg_resources. AllenNLP logs one line without it and continues half loaded.
IMPORTED = ("pkg_resources", "allennlp.commands", "allennlp_models.tagging", "allennlp_models.lm")


def shipped(name: str, in_checkout: str) -> Path:
    """A file or folder of the wheel, or of the checkout if the package is installed in place."""
    return PACKAGE / name if (PACKAGE / name).exists() else PACKAGE.parent / in_checkout


def pinned_file() -> Path:
    """The pinned requirements."""
    return shipped("requirements.txt", "requirements/requirements.txt")


def installed(package: str) -> str:
    """The version of an installed package without its local part ("2.15.0" for "2.15.0+cpu"), or ""."""
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def pinned_versions(file: str | Path | None = None) -> dict[str, list[str]]:
    """
    Pinned versions by package. A package with a marker (platform, Python version) also allows "", for "not installed".
    """
    pinned: dict[str, list[str]] = {}
    for line in Path(file or pinned_file()).read_text(encoding="utf-8").splitlines():
        pin = re.match(r"([\w.-]+)==([^\s;]+)", line)
        if pin:
            versions = pinned.setdefault(pin[1], [])
            versions.extend([pin[2], ""] if ";" in line else [pin[2]])
    return pinned


def differences(file: str | Path | None = None) -> dict[str, str]:
    """Requirement by package, for each package with another version than the pinned one: {"torch": "torch==2.15.0"}."""
    return {
        package: f"{package}=={versions[0]}"
        for package, versions in pinned_versions(file).items()
        if installed(package) not in versions
    }


def install_command(*requirements: str) -> str:
    """The command that installs `requirements` here. Environments of uv have no pip."""
    has_pip = util.find_spec("pip") is not None
    start = f"{sys.executable} -m pip install" if has_pip else f"uv pip install --python {sys.executable}"
    return " ".join([start, "--no-deps", *(f"'{name}'" if name != "-r" else name for name in requirements)])


def repairs() -> list[str]:
    """One line per difference from the pinned versions, then the command that resolves all of them."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return [
            f"* Python {sys.version.split()[0]} is not supported; use Python 3.11 to 3.14.",
            "      uv venv --python 3.11 .venv    # or: python3.11 -m venv .venv",
        ]
    different = differences()
    lines = []
    for package, requirement in different.items():
        version = installed(package)
        state = f"{package} {version} is installed" if version else f"{package} is not installed"
        lines.append(f"* {state}; the pinned version is {requirement.partition('==')[2]}.")
    if 0 < len(different) <= 8:
        return [*lines, "      " + install_command(*different.values())]
    return [
        *lines[:8],
        *(["* ..."] if len(lines) > 8 else []),
        "      " + install_command("-r", str(pinned_file())),
    ]


def diagnosis(error: Exception) -> str:
    """The message for an import that failed with `error`: the cause, and the command that repairs the environment."""
    reason = (str(error).strip() or "no message").splitlines()[0]
    return "\n".join(
        [f"ldnet_allennlp cannot be imported here. {type(error).__name__}: {reason}", *repairs()]
    )


def examine() -> tuple[str, bool]:
    """
    The report on an environment with a working `ldnet_allennlp`, and whether AllenNLP's commands can be imported, too.
    """
    versions = ", ".join(f"{package} {installed(package) or '(not installed)'}" for package in SHOWN)
    lines = [f"Python {sys.version.split()[0]} at {sys.executable}", versions, ""]
    for module in IMPORTED:
        try:
            importlib.import_module(module)
        except Exception as error:
            return "\n".join(
                [*lines, f"import {module} fails. {type(error).__name__}: {error}", *repairs()]
            ), False
    different = differences()
    lines.append("All imports succeed.")
    if different:
        lines += ["These packages differ from the pinned versions, on which the tests run:", *repairs()]
    return "\n".join([*lines, *nltk_hint()]), True


def nltk_hint() -> list[str]:
    """Prevent downloads: allennlp_models fetches nltk's "punkt" on each start unless a folder of that name exists."""
    folders = [
        Path(sys.prefix) / "nltk_data",
        Path.home() / "nltk_data",
        Path(sys.prefix) / "share" / "nltk_data",
    ]
    if not installed("nltk") or any((folder / "tokenizers" / "punkt").exists() for folder in folders):
        return []
    return [
        "allennlp_models tries to download nltk data on each start. ldnet_allennlp does not need "
        "them; an empty folder prevents it:",
        f"      mkdir -p {folders[0]}/tokenizers/punkt",
    ]
