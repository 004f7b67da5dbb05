"""Packaging of ldnet_allennlp. The pinned environment that it is tested in is requirements/requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

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
    python_requires=">=3.8",
    install_requires=[
        "allennlp>=2.10.1,<2.11",
        "allennlp-models>=2.10.1,<2.11",
        "torch>=1.10",
        "numpy",
        "overrides",
        "filelock",
        "jsonnet>=0.17; sys_platform != 'win32'",
    ],
    extras_require={"plot": ["matplotlib"]},
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
