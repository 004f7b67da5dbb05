"""
The doctor, in environments that are broken: a process with `-S` sees no installed package but what the test puts there.
"""

import os
import subprocess
import sys

import pytest

from tests.resources import ROOT

LEGACY = sys.version_info < (3, 11)
MODERN = {
    **{"allennlp": "2.10.1", "allennlp-models": "2.10.1", "torch": "2.6.0+cu124", "torchvision": "0.21.0"},
    **{"numpy": "2.2.6", "spacy": "3.8.7", "thinc": "8.3.6", "setuptools": "80.8.0", "pydantic": "2.11.0"},
    **{"typing_extensions": "4.14.0", "transformers": "4.45.2", "huggingface_hub": "0.36.0"},
}
MODULES = ("pkg_resources", "overrides", "pip")


def put(folder, modules=MODULES, **versions):
    """Metadata of packages and empty modules; `None` for a package that is not installed."""
    for name, version in {
        **MODERN,
        **{key.replace("allennlp_", "allennlp-"): v for key, v in versions.items()},
    }.items():
        if version is not None:
            info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir(parents=True)
            info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for name in modules:
        folder.joinpath(f"{name}.py").write_text("")


def python(folder, *arguments):
    """Runs the interpreter with nothing installed but what is in `folder`, and this package."""
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def diagnosis(folder):
    """What the versions alone show: the problems' text."""
    # "-m": what the package does while `python -m ldnet_allennlp` starts.
    code = "import sys; sys.argv = ['-m']; from ldnet_allennlp import doctor as d; print(d.diagnosis(d.problems()))"
    done = python(folder, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_versions_that_fit(tmp_path):
    put(tmp_path)
    assert diagnosis(tmp_path) == ""


@pytest.mark.parametrize(
    "versions, found, repair",
    [
        ({"torchvision": None}, "torchvision is not installed", "'torchvision==0.21.*'"),
        ({"torchvision": "0.20.1"}, "torch 2.6.0+cu124 needs torchvision 0.21", "'torchvision==0.21.*'"),
        (
            {"torch": "1.12.1", "numpy": "1.26.4"},
            "torch 1.12.1 needs torchvision 0.13",
            "'torchvision==0.13.*'",
        ),
        ({"torch": "1.12.1", "torchvision": "0.13.1"}, "torch 1.12.1 is compiled for numpy 1", "'numpy<2'"),
        (
            {"thinc": "8.0.17"},
            "thinc 8.0.17 is compiled for numpy 1; numpy 2.2.6",
            "numpy<2" if LEGACY else "spacy>=3.8",
        ),
        (
            {"spacy": "3.7.4"},
            "spacy 3.7.4 is compiled for numpy 1; numpy 2.2.6",
            "numpy<2" if LEGACY else "spacy>=3.8",
        ),
        ({"spacy": None}, "spacy is not installed", "'spacy>="),
        (
            {"spacy": "3.3.3", "numpy": "1.26.4"},
            "spacy 3.3.3 does not run with pydantic 2.11",
            "'pydantic<1.9'",
        ),
        ({"numpy": None}, "numpy is not installed", "'numpy<2"),
        ({"torch": None}, "torch is not installed; 1.10", "'torch=="),
        (
            {"allennlp": None},
            "allennlp is not installed; 2.10.1",
            "allennlp==2.10.1" if LEGACY else "requirements.txt",
        ),
        ({"allennlp": "2.9.3"}, "allennlp 2.9.3 is installed; 2.10.1", "'allennlp==2.10.1'"),
        ({"allennlp_models": "2.9.3"}, "allennlp-models 2.9.3 is installed", "'allennlp-models==2.10.1'"),
        ({"transformers": "4.57.1"}, "transformers 4.57.1", "'transformers"),
        ({"huggingface_hub": "1.0.0"}, "refuses huggingface_hub 1.0.0", "'huggingface_hub<1'"),
    ],
)
def test_each_problem_is_named_with_its_repair(tmp_path, versions, found, repair):
    """One thing is broken: it alone is reported, with the versions and a line that starts with this interpreter."""
    put(tmp_path, **versions)
    lines = diagnosis(tmp_path).splitlines()
    assert len(lines) == 2, lines
    assert found in lines[0]
    assert lines[1].startswith(f"      {sys.executable} -m ") and repair in lines[1]


@pytest.mark.parametrize(
    "missing, repair", [("pkg_resources", "'setuptools<80.9'"), ("overrides", "'overrides'")]
)
def test_missing_module(tmp_path, missing, repair):
    put(tmp_path, modules=[name for name in MODULES if name != missing])
    what, fix = diagnosis(tmp_path).splitlines()
    assert missing in what and fix.endswith(repair)


def test_what_is_left_of_a_removed_package_is_not_taken_for_it(tmp_path):
    put(tmp_path, modules=[name for name in MODULES if name != "pkg_resources"])
    (tmp_path / "pkg_resources" / "__pycache__").mkdir(parents=True)
    assert "There is no pkg_resources" in diagnosis(tmp_path)


def test_an_environment_without_pip_is_repaired_with_uv(tmp_path):
    put(tmp_path, modules=("pkg_resources", "overrides"), torchvision=None)
    assert f"uv pip install --python {sys.executable} --no-deps 'torchvision==0.21.*'" in diagnosis(tmp_path)


def test_importing_the_package_raises_the_diagnosis(tmp_path):
    """The error that the broken package raised is the cause; who just imports reads what to do."""
    put(tmp_path, torchvision=None)
    done = python(tmp_path, "-c", "import ldnet_allennlp")
    assert done.returncode == 1
    last = done.stderr[done.stderr.rindex("ImportError: ") :]
    assert "torchvision is not installed" in last and "'torchvision==0.21.*'" in last


def test_an_error_that_no_rule_explains_stays_as_it_is(tmp_path):
    put(tmp_path)
    tmp_path.joinpath("overrides.py").write_text("raise ZeroDivisionError('of its own')\n")
    done = python(tmp_path, "-c", "import ldnet_allennlp")
    assert done.stderr.strip().endswith(
        ("ZeroDivisionError: of its own", "No module named 'allennlp'", "'torch'")
    )
    assert "cannot be used in this environment" not in done.stderr


def test_the_command_in_a_broken_environment(tmp_path):
    """`python -m ldnet_allennlp doctor` runs although the package cannot be imported, and its exit status says so."""
    put(tmp_path, torchvision=None)
    done = python(tmp_path, "-m", "ldnet_allennlp", "doctor")
    assert done.returncode == 1 and not done.stderr, done.stderr
    assert "torchvision (not installed)" in done.stdout
    assert done.stdout.rstrip().endswith("'torchvision==0.21.*'")


def test_what_no_rule_knows_is_found_by_importing(tmp_path):
    """All versions fit, but numpy's compiled part does not load: the error is shown, and how to install anew."""
    put(tmp_path)
    tmp_path.joinpath("numpy.py").write_text(
        "raise ImportError('libopenblas.so: cannot open shared object\\nTry something else.')\n"
    )
    done = python(tmp_path, "-m", "ldnet_allennlp", "doctor")
    assert done.returncode == 1
    assert "`import numpy` fails: ImportError: libopenblas.so: cannot open shared object" in done.stdout
    assert ("allennlp==2.10.1" if LEGACY else "-r requirements.txt") in done.stdout


def test_configs_and_requirements_without_any_package(tmp_path):
    """What is shipped can be had before AllenNLP is installed; an existing folder is left alone."""
    done = python(tmp_path, "-m", "ldnet_allennlp", "configs", "mine")
    assert done.returncode == 0, done.stderr
    copied = {path.name: path.read_text() for path in (tmp_path / "mine").glob("*sonnet")}
    assert copied == {path.name: path.read_text() for path in (ROOT / "training_config").glob("*sonnet")}
    again = python(tmp_path, "-m", "ldnet_allennlp", "configs", "mine")
    assert again.returncode == 1 and "mine exists already" in again.stderr
    pins = python(tmp_path, "-m", "ldnet_allennlp", "requirements")
    assert pins.stdout == (ROOT / "requirements" / "requirements.txt").read_text()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2.6.0+cu124", (2, 6, 0)),
        ("80.10.2", (80, 10, 2)),
        ("5.0rc1", (5, 0)),
        ("", ()),
        ("2.0.post1", (2, 0)),
    ],
)
def test_numbers(text, expected):
    from ldnet_allennlp.doctor import numbers

    assert numbers(text) == expected
