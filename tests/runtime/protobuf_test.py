"""Limits of the walk over a file's messages."""

import pytest

from ldnet_runtime.errors import ModelFileError
from ldnet_runtime.model_file import check_model, protobuf
from ldnet_runtime.model_file.protobuf import encoded_bytes
from tests.runtime.models import word_model


def test_a_field_longer_than_its_message():
    tensor = encoded_bytes(8, bytes(50))[:-48]  # its name
    graph = encoded_bytes(7, encoded_bytes(5, tensor))
    opset, more = encoded_bytes(8, b"\x10\x11"), encoded_bytes(2, bytes(100))
    with pytest.raises(ModelFileError, match=r"a tensor .* is cut off: 50 bytes at byte \d+, but 2 are left"):
        check_model(b"\x08\x08" + graph + opset + more)


def test_too_many_fields(monkeypatch):
    monkeypatch.setattr(protobuf, "_MAX_FIELDS", 3)
    with pytest.raises(ModelFileError, match="the model has the field"):
        check_model(word_model())
