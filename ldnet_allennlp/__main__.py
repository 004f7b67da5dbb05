"""
`python -m ldnet_allennlp doctor | configs | requirements`: what is needed before, or instead of, `allennlp`.

It runs where AllenNLP cannot be imported.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import List, Optional

from ldnet_allennlp import doctor

PACKAGE = Path(__file__).resolve().parent


def shipped(name: str, in_checkout: str) -> Path:
    """A file or folder beside the modules where a wheel was installed, else the checkout's."""
    installed = PACKAGE / name
    return installed if installed.exists() else PACKAGE.parent / in_checkout


def copy_configs(target: Path) -> str:
    """Copies `training_config/`; the files import one another, so they stay together."""
    if target.exists():
        raise SystemExit(f"{target} exists already; nothing was copied. Name another folder.")
    shutil.copytree(shipped("training_config", "training_config"), target)
    return f"The configs are in {target}; each opens with the command that runs it."


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs one of the three; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ldnet_allennlp", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    commands.add_parser("doctor", help="say what is wrong with this environment, and which line repairs it")
    configs = commands.add_parser("configs", help="copy the training configs to a folder")
    configs.add_argument("folder", nargs="?", type=Path, default=Path("training_config"), help="a new one")
    commands.add_parser("requirements", help="print the pinned requirements for Python 3.11 to 3.13")
    chosen = parser.parse_args(arguments)
    if chosen.command == "doctor":
        report, works = doctor.examine()
        print(report)
        return 0 if works else 1
    if chosen.command == "configs":
        print(copy_configs(chosen.folder))
    else:
        sys.stdout.write(
            shipped("requirements.txt", "requirements/requirements.txt").read_text(encoding="utf-8")
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
