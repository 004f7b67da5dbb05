"""
Pack a pre-trained language model for taggers: without softmax, in half precision, with nothing of the training machine.

    python models/pack.py out/lm_forward/model.tar.gz models/english/forward.tar.gz

The result is an AllenNLP archive for `pretrained_file` of an "ldnet" token embedder, about a quarter of the size. It
has no loss, so it can be neither trained further nor evaluated.
"""

import argparse
import gzip
import sys
import zlib
from pathlib import Path

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import ldnet_allennlp  # noqa: F401  registers the classes
from ldnet_allennlp.common.archives import read_archive, write_archive
from ldnet_allennlp.models.adaptive_language_model import AdaptiveLanguageModel

# Half precision has 11 significant bits; outputs are between -1 and 1.
TOLERANCE = 2e-3
OF_THE_MODEL = ("type", "direction", "bidirectional", "text_field_embedder", "contextualizer")


def pack(source: str, target: Path) -> None:
    """
    Write the language model of an archive without its softmax.

    Raises `ConfigurationError` if the archive holds another model, or if half precision changes its vectors by more
    than `TOLERANCE` (root mean square).
    """
    archive = read_archive(source)
    model = archive.model
    if not isinstance(model, AdaptiveLanguageModel):
        raise ConfigurationError(
            f"'{source}' holds a {type(model).__name__}; expected an adaptive_language_model."
        )
    config = archive.config.as_dict(quiet=True)
    packed = {
        "dataset_reader": config["dataset_reader"],
        "model": {
            **{name: config["model"][name] for name in OF_THE_MODEL if name in config["model"]},
            "cutoffs": None,
        },
    }
    model.eval()
    model._autocast = None  # taggers read it in float32
    ids = torch.randint(2, model.vocab.get_vocab_size("tokens"), (4, 25))
    sentences = {"tokens": {"tokens": ids}}
    with torch.no_grad():
        before = model(sentences)["lm_embeddings"]
    model.delete_softmax()
    model.half()

    def check(written: Archive) -> None:
        with torch.no_grad():
            change = (written.model.eval()(sentences)["lm_embeddings"] - before).square().mean().sqrt().item()
        print(f"Half precision changes the vectors by {change:.1e} (root mean square).")
        if not change <= TOLERANCE:
            raise ConfigurationError(f"The vectors change by {change:g}, more than {TOLERANCE}.")

    target.parent.mkdir(parents=True, exist_ok=True)
    write_archive(str(target), model, packed, check)
    compress_again(target)
    print(
        f"{target}: {target.stat().st_size / 1e6:.1f} MB (before: {Path(source).stat().st_size / 1e6:.1f} MB)"
    )


def compress_again(path: Path) -> None:
    """Compress a gzip file with the largest tables of zlib, which saves a few thousandths."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 9)
    content = gzip.decompress(path.read_bytes())
    beside = path.with_suffix(".unfinished")
    beside.write_bytes(compressor.compress(content) + compressor.flush())
    beside.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="model.tar.gz of `allennlp train`")
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    pack(arguments.source, arguments.target)
