"""The span encodings of `ldnet_runtime.tag_schemes`, under their former name."""

from ldnet_runtime.tag_schemes import *  # noqa: F403
