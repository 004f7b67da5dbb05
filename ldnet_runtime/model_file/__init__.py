"""
The exported tagger: one ONNX file whose metadata hold, as JSON, all that its graph does not.

`TaggerDescription` is that JSON: `to_json` writes it, `read_model_file` reads and checks a file. The layouts of the
graph's inputs are those of `ldnet_runtime.encoding`; its output `emissions` (B, T, N) holds the scores of N labels.
"""

from ldnet_runtime.model_file.description import (
    Input,
    SentenceCharacterInput,
    TaggerDescription,
    WordCharacterInput,
    WordInput,
)
from ldnet_runtime.model_file.metadata import METADATA_KEY, from_json, to_json
from ldnet_runtime.model_file.reading import ModelFile, check_model, read_model_file
