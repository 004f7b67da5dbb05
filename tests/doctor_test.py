"""The doctor in broken environments: a process with `-S` sees only the packages that a test creates."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.resources import ROOT

INSTALLED = {"allennlp": "2.10.1", "numpy": "2.4.6", "torch": "2.15.0+cpu"}
PINNED = """\
# compiled
allennlp==2.10.1
colorama==0.4.6 ; sys_platform == 'win32'
numpy==2.4.6 ; python_full_version < '3.12'
numpy==2.5.5 ; python_full_version >= '3.12'
torch==2.15.0
"""
COMPONENTS = ("commands", "data", "models", "modules", "predictors", "training")
MODULES = (
    "pip",
    "torch",
    "pkg_resources",
    "allennlp/commands",
    "allennlp_models/tagging",
    "allennlp_models/lm",
)


@pytest.fixture
def environment(tmp_path):
    """Creates packages and this one's wheel; `None` omits a package. Returns what runs Python on them."""

    def create(modules=MODULES, pinned=PINNED, **versions):
        package = tmp_path / "ldnet_allennlp"
        package.mkdir()
        for name in ("__init__.py", "__main__.py", "doctor.py"):
            shutil.copy(ROOT / "ldnet_allennlp" / name, package)
        for name in COMPONENTS:
            (package / f"{name}.py").write_text("import torch\n")
        (package / "requirements.txt").write_text(pinned)
        for name, version in {**INSTALLED, **versions}.items():
            if version is not None:
                info = tmp_path / f"{name}-{version}.dist-info"
                info.mkdir()
                (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        for name in modules:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / f"{name}.py").write_text("")

        def python(*arguments):
            return subprocess.run(
                [sys.executable, "-S", *arguments],
                cwd=str(tmp_path),
                env={**os.environ, "PYTHONPATH": str(tmp_path)},
                capture_output=True,
                encoding="utf-8",
                timeout=60,
            )

        return python

    return create


def doctor(python):
    done = python("-m", "ldnet_allennlp", "doctor")
    return done.returncode, done.stdout + done.stderr


def test_pinned_versions_work(environment):
    status, report = doctor(environment())
    assert status == 0 and "All imports succeed." in report and "differ" not in report
    assert "torch 2.15.0" in report and "spacy (not installed)" in report


def test_a_marker_allows_other_versions_and_none(environment):
    assert "differ" not in doctor(environment(numpy="2.5.5"))[1]


@pytest.mark.parametrize(
    "versions, line",
    [
        ({"torch": "2.6.0"}, "* torch 2.6.0 is installed; the pinned version is 2.15.0."),
        ({"allennlp": None}, "* allennlp is not installed; the pinned version is 2.10.1."),
    ],
)
def test_a_difference_is_reported_with_its_repair(environment, versions, line):
    status, report = doctor(environment(**versions))
    assert status == 0 and line in report
    package = next(iter(versions))
    assert re.search(
        rf"^ +{re.escape(sys.executable)} -m pip install --no-deps '{package}==[\d.]+'$", report, re.M
    )


def test_many_differences_end_in_one_command(environment):
    many = "".join(f"package{number}==1.0\n" for number in range(20))
    _, report = doctor(environment(pinned=many))
    assert report.count("* ") == 9
    assert re.search(r"pip install --no-deps -r '.*requirements\.txt'$", report.strip(), re.M)


def test_without_pip_the_command_is_that_of_uv(environment):
    python = environment(modules=[name for name in MODULES if name != "pip"], torch="2.6.0")
    assert f"uv pip install --python {sys.executable} --no-deps 'torch==2.15.0'" in doctor(python)[1]


def test_a_broken_package_ends_the_import_with_the_repair(environment):
    """The package's own error is the cause; its message and the command are the last lines."""
    python = environment(modules=[name for name in MODULES if name != "torch"], torch=None)
    for arguments in (["-c", "import ldnet_allennlp"], ["-m", "ldnet_allennlp", "doctor"]):
        done = python(*arguments)
        assert done.returncode == 1
        message = done.stderr[done.stderr.rindex("ImportError: ") :]
        assert "ModuleNotFoundError: No module named 'torch'" in message
        assert "* torch is not installed" in message and "'torch==2.15.0'" in message


def test_an_import_error_reaches_a_program_run_as_a_module(environment, tmp_path):
    """`python -m mine.main`, where `mine` imports this package, must not continue with nothing registered."""
    python = environment(modules=[name for name in MODULES if name != "torch"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import ldnet_allennlp\n")
    (tmp_path / "mine" / "main.py").write_text("print('runs')\n")
    done = python("-m", "mine.main")
    assert done.returncode == 1 and "runs" not in done.stdout
    assert "ldnet_allennlp cannot be imported here" in done.stderr


def test_a_module_that_only_the_commands_import(environment):
    """allennlp_models imports pkg_resources, which recent setuptools removed."""
    status, report = doctor(environment(modules=[name for name in MODULES if name != "pkg_resources"]))
    assert status == 1 and "import pkg_resources fails. ModuleNotFoundError" in report
    # All versions are the pinned ones, so a package is damaged: install all of them again.
    assert re.search(r"pip install --no-deps -r '.*requirements\.txt'$", report.strip(), re.M)


def test_configs_and_requirements(environment, tmp_path):
    python = environment()
    (tmp_path / "ldnet_allennlp" / "training_config").mkdir()
    (tmp_path / "ldnet_allennlp" / "training_config" / "a.jsonnet").write_text("{}")
    assert python("-m", "ldnet_allennlp", "configs", "mine").returncode == 0
    assert (tmp_path / "mine" / "a.jsonnet").read_text() == "{}"
    again = python("-m", "ldnet_allennlp", "configs", "mine")
    assert again.returncode == 1 and "mine already exists" in again.stderr
    assert python("-m", "ldnet_allennlp", "requirements").stdout == PINNED
