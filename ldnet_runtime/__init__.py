"""
Tag text with an exported LD-Net tagger. Requires only numpy and ONNX Runtime.

    from ldnet_runtime import Tagger
    tagger = Tagger("ner.onnx")
    for span in tagger("Ada Lovelace wrote to Charles Babbage from London.").spans:
        print(span.text, span.label, span.start, span.end, span.confidence)

The names below are imported on first use, which keeps `ldnet-tag --help` fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InputError", "ModelFileError", "Options", "Prediction", "Sentence", "Span", "Tagger", "TextError"]

_HOMES = {
    "InputError": "errors",
    "ModelFileError": "errors",
    "Options": "prediction",
    "Prediction": "prediction",
    "Sentence": "text",
    "Span": "prediction",
    "Tagger": "tagger",
    "TextError": "text",
}

if TYPE_CHECKING:
    from ldnet_runtime.errors import InputError, ModelFileError
    from ldnet_runtime.prediction import Options, Prediction, Span
    from ldnet_runtime.tagger import Tagger
    from ldnet_runtime.text import Sentence, TextError


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
