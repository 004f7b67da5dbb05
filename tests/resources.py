"""What the tests share: where the fixtures are and how reference vectors are read."""

import inspect
import os
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from ldnet_allennlp.common.precision import supports

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
REFERENCE = FIXTURES / "reference"
DATA = Path(os.environ.get("LDNET_DATA", ROOT.parent / "shared" / "data"))

needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the measuring corpora are absent ({DATA}; set LDNET_DATA)"
)
needs_bfloat16 = pytest.mark.skipif(
    not supports(torch.bfloat16, torch.device("cpu")), reason="this CPU does not compute in bfloat16"
)


def load_reference(name: str) -> dict[str, numpy.ndarray]:
    """All arrays of one `.npz` file below `fixtures/reference`."""
    with numpy.load(str(REFERENCE / name)) as arrays:
        return dict(arrays)


def reference_parameters(arrays: dict[str, numpy.ndarray], dtype=torch.float64) -> dict[str, torch.Tensor]:
    """The parameters in a reference file: `param/*` as stored, `param_q32/*` divided by 32."""
    parameters = {}
    for key, value in arrays.items():
        if key.startswith("param/"):
            parameters[key[len("param/") :]] = torch.as_tensor(value).to(dtype)
        elif key.startswith("param_q32/"):
            parameters[key[len("param_q32/") :]] = torch.as_tensor(value).to(dtype) / 32
    return parameters


def load_tensors(source: Any) -> Any:
    """`torch.load` of nothing but tensors. Before torch 1.13 it could not be told; the tests read their own files."""
    options = {"weights_only": True} if "weights_only" in inspect.signature(torch.load).parameters else {}
    return torch.load(source, map_location="cpu", **options)
