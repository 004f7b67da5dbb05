"""The pinned files agree with each other, with their sources and with the bounds of setup.py."""

import ast
import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.resources import ROOT

FOLDER = ROOT / "requirements"


def pins(name: str) -> list[str]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def versions(name: str) -> dict[str, set[str]]:
    """Versions by package; several where they depend on the Python."""
    by_name: dict[str, set[str]] = {}
    for line in pins(name):
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        by_name.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return by_name


def test_the_file_for_cpus_lacks_only_what_gpus_need():
    every = pins("requirements.txt")
    assert pins("requirements-cpu.txt") == [
        line for line in every if not re.match("nvidia-|cuda-|triton", line)
    ]
    assert len(pins("requirements-cpu.txt")) < len(every)


def test_the_development_file_contains_the_pins():
    development = versions("development.txt")
    assert {name: development.get(name) for name in versions("requirements.txt")} == versions(
        "requirements.txt"
    )


@pytest.mark.parametrize("source, target", [("requirements", "requirements"), ("development", "development")])
def test_each_source_is_pinned(source, target):
    names = {canonicalize_name(Requirement(line).name) for line in pins(f"{source}.in")}
    assert names <= set(versions(f"{target}.txt"))


def test_the_pins_keep_the_bounds_of_the_packages():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (bounds,) = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "install_requires"
    ]
    pinned = versions("requirements.txt")
    for requirement in map(Requirement, ast.literal_eval(bounds)):
        if requirement.name != "ldnet-runtime":
            for version in pinned[canonicalize_name(requirement.name)]:
                assert requirement.specifier.contains(version), (requirement, version)


def test_the_runtime_refuses_versions_that_lack_what_it_uses():
    """Large weights that are mapped into memory, and IPv6 addresses as host names."""
    project = tomllib.loads((ROOT / "ldnet_runtime/pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(one for extra in extras for one in extra)]
    bounds = {one.name: one.specifier for one in map(Requirement, requirements)}
    pinned = versions("development.txt")
    for name, version in (("onnxruntime", "1.20.1"), ("starlette", "1.5.1")):
        assert not bounds[name].contains(version)
        assert all(bounds[name].contains(pin) for pin in pinned[name])


def test_what_the_tests_run_on_is_pinned():
    """The suite's result counts for these versions only."""
    for name in ("torch", "transformers", "numpy", "allennlp"):
        assert metadata.version(name).split("+")[0] in versions("requirements.txt")[name]
