"""
LD-Net as a plugin for AllenNLP. Importing this package registers every component, or raises an `ImportError` that
names the packages to repair. `ldnet_allennlp.plugin` is what the `allennlp` command loads.
"""

from ldnet_allennlp import doctor

try:
    from ldnet_allennlp import commands, data, models, modules, predictors, training
except Exception as error:  # a package compiled for another numpy or torch raises more than ImportError
    raise ImportError(doctor.diagnosis(error)) from error
