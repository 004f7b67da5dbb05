"""
The exported tagger: one ONNX file with a graph and JSON metadata.

`TaggerDescription` represents the metadata: `to_json` writes it, and `read_model_file` reads and checks a file.
`ldnet_runtime.encoding` defines the layouts of the graph's inputs. Its output `emissions` (B, T, N) contains the scores
of N labels.
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
