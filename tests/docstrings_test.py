"""Every public class and function has a docstring, and those that are given tensors say of which shape."""

import ast
import re
from typing import Iterator, NamedTuple

import pytest

from tests.resources import ROOT

# "(B, T, D)", "(N,)", "(T, B, ...)"; or a sentence about shapes.
SHAPE = re.compile(r"\([A-Za-z0-9_.*+ ]+,( [^()]*)?\)|shape", re.DOTALL)


class Public(NamedTuple):
    """A class or function that others may use."""

    name: str
    node: ast.AST
    documented_by_class: bool

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.node) or ""


def public_things(node: ast.AST, name: str, documented_by_class: bool = False) -> Iterator[Public]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and not child.name.startswith("_"):
            yield Public(f"{name}.{child.name}", child, documented_by_class)
            if isinstance(child, ast.ClassDef):
                # A `torch.autograd.Function` is called by `apply`, which the class describes.
                is_function = any(
                    isinstance(base, ast.Attribute) and base.attr == "Function" for base in child.bases
                )
                yield from public_things(child, f"{name}.{child.name}", is_function)


def overrides(node: ast.AST) -> bool:
    """Whether it is what a base class describes."""
    decorators = [getattr(decorator, "func", decorator) for decorator in getattr(node, "decorator_list", [])]
    return any(isinstance(decorator, ast.Name) and decorator.id == "overrides" for decorator in decorators)


def takes_tensors(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    annotations = [ast.dump(argument.annotation) for argument in node.args.args if argument.annotation]
    tensor = ast.dump(ast.parse("torch.Tensor", mode="eval").body)
    optional = ast.dump(ast.parse("Optional[torch.Tensor]", mode="eval").body)
    return tensor in annotations or optional in annotations


PUBLIC = [
    public
    for path in sorted((ROOT / "ldnet_allennlp").rglob("*.py"))
    for public in public_things(ast.parse(path.read_text(encoding="utf-8")), path.stem)
    if not (public.documented_by_class or overrides(public.node))
]


def test_everything_is_found():
    assert {"LdRnn", "LdnetTagger", "examine"} <= {public.name.split(".")[-1] for public in PUBLIC}


@pytest.mark.parametrize("kind", ["docstring", "shapes"])
def test_none_is_without(kind):
    if kind == "docstring":
        without = [public.name for public in PUBLIC if not public.docstring]
    else:
        without = [
            public.name
            for public in PUBLIC
            if takes_tensors(public.node) and not SHAPE.search(public.docstring)
        ]
    assert without == []
