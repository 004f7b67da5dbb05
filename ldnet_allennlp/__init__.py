"""LD-Net as a plugin for AllenNLP. Importing this module registers every component."""

import os

from ldnet_allennlp import commands, data, models, modules, predictors, training

# The configs in `training_config/` take settings from this variable, and jsonnet cannot give it a default.
os.environ.setdefault("LDNET_SETTINGS", "{}")
