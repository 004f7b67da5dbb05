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
SHOWN = "allennlp allennlp-models torch torchvision numpy spacy transformers setuptools"
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


def differences(file: str | None = None) -> dict[str, str]:
    """The pinned version of each package whose installed version differs from `file` (default: requirements.txt)."""
    pinned: dict[str, list[str]] = {}
    for line in Path(file or pinned_file()).read_text(encoding="utf-8").splitlines():
        pin = re.match(r"([\w.-]+)==([^\s;]+)", line)
        if pin:  # a package with a marker (platform, Python version) may be absent
            pinned.setdefault(pin[1], []).extend([pin[2], ""] if ";" in line else [pin[2]])
    return {name: versions[0] for name, versions in pinned.items() if installed(name) not in versions}


def repairs() -> list[str]:
    """One line per difference from the pinned versions, then the command that resolves all of them."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        return [
            f"* Python {sys.version.split()[0]} is not supported; use Python 3.11 to 3.14.",
            "      uv venv --python 3.11 .venv    # or: python3.11 -m venv .venv",
        ]
    different = differences()
    lines = []
    for package, pinned in different.items():
        version = installed(package)
        state = f"{version} is installed" if version else "is not installed"
        lines.append(f"* {package} {state}; the pinned version is {pinned}.")
    requirements = " ".join(f"'{package}=={pinned}'" for package, pinned in different.items())
    if not 0 < len(lines) <= 8:
        lines = [*lines[:8], "* ..."] if lines else []
        requirements = f"-r '{pinned_file()}'"
    has_pip = util.find_spec("pip") is not None  # environments of uv have none
    command = f"{sys.executable} -m pip install" if has_pip else f"uv pip install --python {sys.executable}"
    return [*lines, f"      {command} --no-deps {requirements}"]


def diagnosis(error: Exception) -> str:
    """The message for an import that failed with `error`: the cause, and the command that repairs the environment."""
    reason = (str(error).strip() or "no message").splitlines()[0]
    cause = f"ldnet_allennlp cannot be imported here. {type(error).__name__}: {reason}"
    return "\n".join([cause, *repairs()])


def examine() -> tuple[str, bool]:
    """
    The report on an environment with a working `ldnet_allennlp`, and whether AllenNLP's commands can be imported, too.
    """
    versions = ", ".join(f"{package} {installed(package) or '(not installed)'}" for package in SHOWN.split())
    lines = [f"Python {sys.version.split()[0]} at {sys.executable}", versions, ""]
    for module in IMPORTED:
        try:
            importlib.import_module(module)
        except Exception as error:
            failure = f"import {module} fails. {type(error).__name__}: {error}"
            return "\n".join([*lines, failure, *repairs()]), False
    lines.append("All imports succeed.")
    if differences():
        lines += ["These packages differ from the pinned versions, on which the tests run:", *repairs()]
    # allennlp_models fetches nltk's "punkt" on each start unless a folder of that name exists.
    prefix = Path(sys.prefix)
    folders = [prefix / "nltk_data", Path.home() / "nltk_data", prefix / "share" / "nltk_data"]
    if installed("nltk") and not any((folder / "tokenizers" / "punkt").exists() for folder in folders):
        lines += [
            "allennlp_models tries to download nltk data on each start. ldnet_allennlp does not need "
            "them; an empty folder prevents it:",
            f"      mkdir -p {folders[0]}/tokenizers/punkt",
        ]
    return "\n".join(lines), True
