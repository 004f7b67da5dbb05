"""
Plugin of the `allennlp` command, imported through `.allennlp_plugins` or `--include-package ldnet_allennlp`. It
registers every component and sets up the command's process. Programs that import `ldnet_allennlp` instead keep their
environment variables and warning filters.
"""

import os
import warnings

import ldnet_allennlp  # noqa: F401, registers every component

# jsonnet variables have no defaults. An empty object makes the configs in training_config/ use their defaults.
os.environ.setdefault("LDNET_SETTINGS", "{}")

# AllenNLP's trainer calls torch.cuda.amp, and torch warns about the new name in every run.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"allennlp\.")
warnings.filterwarnings("ignore", message="User provided device_type of 'cuda', but CUDA is not available")
