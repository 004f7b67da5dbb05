"""Errors of this package: `ValueError`s with a one-sentence message."""


class ModelFileError(ValueError):
    """The model file is damaged, or not a tagger written by the exporter."""


class InputError(ValueError):
    """Invalid input, with its place, the found and the expected content."""
