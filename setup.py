"""
Packaging of ldnet_allennlp.

Python 3.11 to 3.13: install requirements/requirements.txt and then this package, both without dependencies, because
AllenNLP's own pins do not install there. Python 3.8 to 3.10: `pip install .` takes AllenNLP's pins and the bounds
below, which AllenNLP 2.10.1 lacks. README.md has the commands.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent

# What was released after AllenNLP's last release and does not fit it, or writes warnings into every command.
FORGOTTEN_BOUNDS = [
    "torch<1.13",  # as AllenNLP says: pip looks at the newest first and takes gigabytes
    "torchvision<0.14",
    "numpy<2",  # spaCy 3.3, thinc 8.0 and torch 1.12 are compiled for numpy 1
    "setuptools<80.9",  # allennlp_models and wandb import pkg_resources: 80.9 warns of it, 82 is without it
    "typing_extensions<4.6",  # pydantic 1.8, which spaCy 3.3 wants, cannot read later ones on Python 3.8 and 3.9
    "pyarrow<21",  # datasets 2.10 uses PyExtensionType
    "google-api-core<2.26",  # later ones warn of the Python in use, on each start; so do the next two
    "google-auth<2.42",
    "cryptography<44",
    "boto3>=1.26",  # or a resolver goes back to 2018
]


class BuildWithConfigs(build_py):
    """Puts the configs and the pins beside the modules, where `python -m ldnet_allennlp` finds them."""

    def run(self) -> None:
        super().run()
        if not getattr(self, "editable_mode", False):  # an editable install reads the checkout's
            package = Path(self.build_lib) / "ldnet_allennlp"
            shutil.rmtree(package / "training_config", ignore_errors=True)
            shutil.copytree(ROOT / "training_config", package / "training_config")
            shutil.copy(ROOT / "requirements" / "requirements.txt", package / "requirements.txt")


setup(
    name="ldnet-allennlp",
    version="0.1.0",
    description="LD-Net for AllenNLP: language models pruned layer by layer, for fast sequence labelling",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["ldnet_allennlp", "ldnet_allennlp.*"]),
    package_data={"ldnet_allennlp": ["py.typed"]},
    # allennlp_models would download this on each start where it is missing; nothing here reads it.
    data_files=[("nltk_data/tokenizers/punkt", ["requirements/nltk_data.txt"])],
    cmdclass={"build_py": BuildWithConfigs},
    python_requires=">=3.8",
    install_requires=[
        "allennlp>=2.10.1,<2.11",
        "allennlp-models>=2.10.1,<2.11",
        "torch>=1.10",
        "torchvision>=0.11",
        "numpy",
        "overrides",
        "filelock",
        "jsonnet>=0.17; sys_platform != 'win32'",
        *(f"{bound}; python_version < '3.11'" for bound in FORGOTTEN_BOUNDS),
    ],
    extras_require={
        "plot": ["matplotlib"],
        "test": ["pytest", "pytest-xdist", "hypothesis", "seqeval", "pytorch-crf", "matplotlib"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
    keywords=[
        "allennlp",
        "nlp",
        "language model",
        "sequence labeling",
        "named entity recognition",
        "pruning",
    ],
    zip_safe=False,
)
