"""`requirements/environment.sh`: which environment and interpreter it uses, and what it refuses or leaves alone."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.resources import ROOT

# Stands in for uv: logs its arguments, makes an environment of the running interpreter, and has no network.
UV = f"""#!/bin/bash
echo "$*" >> "$UV_LOG"
case "$1 $2" in
    "python find") exit 1 ;;
    "python install") echo "error: no network" >&2; exit 2 ;;
    "venv "*)
        for folder; do :; done
        mkdir -p "$folder/bin" && touch "$folder/pyvenv.cfg"
        printf '#!/bin/sh\\nexec "{sys.executable}" "$@"\\n' > "$folder/bin/python"
        chmod +x "$folder/bin/python" ;;
esac
"""
pytestmark = pytest.mark.skipif(os.name == "nt", reason="a script for bash")
OLD_PYTHON = '#!/bin/sh\n[ "$1" = --version ] && { echo Python 3.9.1; exit; }\nexit 1\n'
NEW_PYTHON = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
PYTEST = f"pytest=={metadata.version('pytest')}"


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Checkout(NamedTuple):
    """A repository without code, with its own tools in front of the system's."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def uv_calls(self) -> list[str]:
        log = self.root / "uv.log"
        return log.read_text().splitlines() if log.exists() else []

    def run(self, command="ensure_environment; echo uses $venv", path="", **variables):
        start = f'set -euo pipefail; root="{self.root}"; pins=requirements.txt'
        script = f'{start}; . "$root/requirements/environment.sh"; {command}'
        environment = {"HOME": str(self.root), "UV_LOG": str(self.root / "uv.log"), **variables}
        environment["PATH"] = os.pathsep.join(
            filter(None, [path, str(self.root / "tools"), "/usr/bin", "/bin"])
        )
        return subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, encoding="utf-8", timeout=60
        )


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path.resolve()
    for name in (
        "requirements/environment.sh",
        "requirements/nltk_data.txt",
        "setup.py",
        "ldnet_allennlp/doctor.py",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / "ldnet_runtime").mkdir()
    (root / "ldnet_runtime" / "pyproject.toml").write_text("")
    (root / "requirements" / "requirements.txt").write_text(PYTEST + "\n")
    (root / "requirements" / "development.txt").write_text(PYTEST + "\n")
    executable(root / "tools" / "uv", UV)
    executable(root / "tools" / "python3", NEW_PYTHON)
    return Checkout(root)


def test_an_environment_is_made_once(checkout):
    first = checkout.run()
    assert first.returncode == 0, first.stderr
    assert f"uses {checkout.venv}" in first.stdout
    installs = [call for call in checkout.uv_calls if call.startswith("pip install")]
    assert len(installs) == 2 and "--compile-bytecode" in installs[0] and "--editable" in installs[1]
    calls = len(checkout.uv_calls)
    assert checkout.run().returncode == 0
    assert len(checkout.uv_calls) == calls


def test_development_contains_what_the_quickstart_needs(checkout):
    assert checkout.run("pins=development.txt; ensure_environment").returncode == 0
    calls = len(checkout.uv_calls)
    assert checkout.run().returncode == 0 and len(checkout.uv_calls) == calls
    (checkout.venv / "ldnet-stamp").unlink()
    shutil.rmtree(checkout.venv)
    checkout.run()
    calls = len(checkout.uv_calls)
    checkout.run("pins=development.txt; ensure_environment")
    assert "development.txt" in " ".join(checkout.uv_calls[calls:])


def test_new_pins_are_installed_into_the_same_environment(checkout):
    checkout.run()
    (checkout.venv / "mine.txt").touch()
    (checkout.root / "requirements" / "requirements.txt").write_text("# new\n" + PYTEST + "\n")
    calls = len(checkout.uv_calls)
    assert checkout.run().returncode == 0
    assert len(checkout.uv_calls) > calls and (checkout.venv / "mine.txt").exists()


def test_an_interrupted_installation_continues(checkout):
    checkout.venv.mkdir()
    (checkout.venv / "ldnet-stamp").write_text(f"{checkout.root}\nunfinished\n")
    assert checkout.run().returncode == 0
    assert any(call.startswith("venv") for call in checkout.uv_calls)


@pytest.mark.parametrize(
    "pin, fits", [(PYTEST, True), ("pytest==0.1", False), ("absent-package==1.0", False)]
)
def test_an_environment_of_the_user_is_used_or_refused(checkout, pin, fits):
    """It is never replaced, whatever is in it."""
    (checkout.root / "requirements" / "requirements.txt").write_text(f"{pin}\n")
    executable(checkout.venv / "bin" / "python", NEW_PYTHON)
    (checkout.venv / "pyvenv.cfg").touch()
    (checkout.venv / "thesis.txt").touch()
    done = checkout.run()
    assert (done.returncode == 0) is fits
    assert fits or f"lacks pinned versions: {pin}" in done.stderr
    assert (checkout.venv / "thesis.txt").exists() and not checkout.uv_calls


def test_a_folder_that_is_no_environment_is_refused(checkout):
    checkout.venv.mkdir()
    (checkout.venv / "thesis.txt").touch()
    done = checkout.run()
    assert done.returncode != 0 and "is not a Python environment" in done.stderr
    assert (checkout.venv / "thesis.txt").exists()


def test_our_environment_on_the_path_is_not_taken_for_the_systems_python(checkout):
    executable(checkout.venv / "bin" / "python3", NEW_PYTHON)
    done = checkout.run('find_python; echo "$python"', path=str(checkout.venv / "bin"))
    assert done.stdout.strip() == str(checkout.root / "tools" / "python3")


def test_without_a_python_uv_downloads_one_or_the_message_names_what_exists(checkout):
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"):
        executable(checkout.root / "tools" / name, OLD_PYTHON)
    shutil.copy("/bin/bash", checkout.root / "tools" / "bash")
    # Only the tools folder: the system's own interpreters must not count.
    for name in ("cat", "cksum", "dirname", "flock", "head", "ls", "mkdir", "mv", "rm", "uname"):
        (checkout.root / "tools" / name).symlink_to(shutil.which(name))
    done = checkout.run(f"PATH={checkout.root / 'tools'}; ensure_environment")
    assert done.returncode != 0 and "python install 3.14" in checkout.uv_calls
    assert "found no Python 3.11 to 3.14 on PATH (found: Python 3.9.1" in done.stderr
    assert "could not download one" in done.stderr and "no network" in done.stderr
    assert not checkout.venv.exists()


def test_help_needs_no_environment(checkout):
    for script in ("run_tests.sh", "quickstart.sh"):
        shutil.copy(ROOT / script, checkout.root)
    shutil.copytree(ROOT / "quickstart", checkout.root / "quickstart", ignore=shutil.ignore_patterns("out"))
    for script, text in (("run_tests.sh", "Arguments go to pytest"), ("quickstart.sh", "--lm-train")):
        done = subprocess.run(
            ["bash", str(checkout.root / script), "--help"],
            env={"PATH": f"{checkout.root / 'tools'}:/usr/bin:/bin"},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert done.returncode == 0 and text in done.stdout, done.stderr
    assert not checkout.venv.exists()
