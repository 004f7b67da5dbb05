"""
LD-Net as a plugin for AllenNLP. Importing this package registers every component, or raises an `ImportError` that names
the packages to repair. The `allennlp` command loads `ldnet_allennlp.plugin`.
"""

from ldnet_allennlp import doctor

try:
    from ldnet_allennlp import commands, data, models, modules, predictors, training
except Exception as error:  # a package compiled for another numpy or torch raises more than ImportError
    raise ImportError(doctor.diagnosis(error)) from error
