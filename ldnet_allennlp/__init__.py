"""LD-Net as a plugin for AllenNLP. Importing this module registers every component."""

import os
import sys
import warnings

from ldnet_allennlp import doctor


def _register_all() -> None:
    """Imports every registered class."""
    with warnings.catch_warnings():
        # What fairscale, google's packages and setuptools tell the developers of their users.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(fairscale|google)\.")
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        from ldnet_allennlp import commands, data, models, modules, predictors, training
    # What torch says of AllenNLP's trainer, in each training: torch 2.4 and later, and torch 1 on a CPU.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"allennlp\.")
    warnings.filterwarnings(
        "ignore", message="User provided device_type of 'cuda', but CUDA is not available"
    )


if not doctor.runs_as_program():
    try:
        _register_all()
    except Exception as error:  # a numpy that does not fit is a ValueError, a torchvision a RuntimeError
        # "-m": `python -m ldnet_allennlp doctor` is on its way and says all of it, Python 3.8 and 3.9 did not say so.
        if sys.argv[:1] != ["-m"]:
            problems = doctor.problems()
            if not problems:
                raise
            raise ImportError(
                f"AllenNLP cannot be used in this environment ({type(error).__name__}: {error})\n"
                + doctor.diagnosis(problems)
            ) from error

# The configs in `training_config/` take settings from this variable, and jsonnet cannot give it a default.
os.environ.setdefault("LDNET_SETTINGS", "{}")
