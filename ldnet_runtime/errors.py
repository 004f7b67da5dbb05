"""The errors of this package: `ValueError`s whose text is one sentence."""


class ModelFileError(ValueError):
    """The model file is damaged, is no tagger, or holds what a tagger's file does not."""


class InputError(ValueError):
    """A text, a line or a file that cannot be read: which one, where, what stands there and what was expected."""
