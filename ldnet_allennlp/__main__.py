"""Command line of the package: check the environment (`doctor`), copy shipped files (`configs`, `requirements`)."""

import argparse
import shutil
import sys
from pathlib import Path

from ldnet_allennlp import doctor


def copy_configs(target: Path) -> str:
    """Copy all of `training_config/`, because the files import one another."""
    if target.exists():
        raise SystemExit(f"{target} already exists; nothing was copied. Choose another folder.")
    shutil.copytree(doctor.shipped("training_config", "training_config"), target)
    return f"The configs are in {target}; each opens with the command that runs it."


def main(arguments: list[str] | None = None) -> int:
    """Run one of the three commands; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ldnet_allennlp", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    commands.add_parser("doctor", help="check this environment and print the command that repairs it")
    configs = commands.add_parser("configs", help="copy the training configs to a new folder")
    configs.add_argument("folder", nargs="?", type=Path, default=Path("training_config"))
    commands.add_parser("requirements", help="print the pinned requirements")
    options = parser.parse_args(arguments)
    if options.command == "doctor":
        report, works = doctor.examine()
        print(report)
        return 0 if works else 1
    if options.command == "configs":
        print(copy_configs(options.folder))
    else:
        sys.stdout.write(doctor.pinned_file().read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
