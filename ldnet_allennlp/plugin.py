"""
Plugin of the `allennlp` command, imported through `.allennlp_plugins` or `--include-package ldnet_allennlp`. It
registers every component and sets up the command's process. Programs that import `ldnet_allennlp` instead keep their
environment variables and warning filters.
"""

import os
import warnings

import ldnet_allennlp  # noqa: F401, registers every component

# jsonnet has no default for a variable: without settings, the configs in training_config/ use their own values.
os.environ.setdefault("LDNET_SETTINGS", "{}")

# AllenNLP's trainer calls torch.cuda.amp, whose new name torch recommends in every run, and on CPUs, too.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"allennlp\.")
warnings.filterwarnings("ignore", message="User provided device_type of 'cuda', but CUDA is not available")
