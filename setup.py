"""
Packaging of ldnet_allennlp.

AllenNLP 2.10.1 pins versions that do not install on a maintained Python. Install requirements/requirements.txt and
then ldnet_runtime/ and this package, all without dependencies. README.md has the commands.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithConfigs(build_py):
    """Adds the configs and the pins to the package; `python -m ldnet_allennlp` copies them from there."""

    def run(self) -> None:
        if getattr(self, "editable_mode", False):  # an editable install reads the checkout's
            super().run()
            return
        package = Path(self.build_lib) / "ldnet_allennlp"
        shutil.rmtree(package, ignore_errors=True)  # modules of an older build do not belong in a wheel
        super().run()
        shutil.copytree(ROOT / "training_config", package / "training_config")
        shutil.copy(ROOT / "requirements" / "requirements.txt", package / "requirements.txt")


setup(
    name="ldnet-allennlp",
    version="0.2.0.dev0",
    description="LD-Net for AllenNLP: language models pruned layer by layer, for fast sequence labeling",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["ldnet_allennlp", "ldnet_allennlp.*"]),
    package_data={"ldnet_allennlp": ["py.typed"]},
    # Without this, allennlp_models downloads it on each start. ldnet_allennlp does not read it.
    data_files=[("nltk_data/tokenizers/punkt", ["requirements/nltk_data.txt"])],
    cmdclass={"build_py": BuildWithConfigs},
    python_requires=">=3.11",
    install_requires=[
        "allennlp>=2.10.1,<2.11",
        "allennlp-models>=2.10.1,<2.11",
        "ldnet-runtime",
        "torch>=2.10",  # earlier ones execute code from crafted weight files (CVE-2026-24747)
        "torchvision",
        "transformers>=4.49,<4.50",  # AllenNLP imports AdamW, which 4.50 removed
        "huggingface_hub<1",  # AllenNLP imports HfFolder and Repository, which 1.0 removed
        "setuptools<80.9",  # allennlp_models' py-rouge imports pkg_resources: 80.9 warns of it, 82 removed it
        "spacy>=3.8",
        "numpy>=2",
        "onnx",
        "onnxruntime",
        "pyahocorasick",
        "rich",
        "zstandard",
        "overrides",
        "filelock",
        "jsonnet>=0.17",
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
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)),
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
