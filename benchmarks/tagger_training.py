"""
Measure time and memory of training a tagger over frozen language models, at the published sizes.

    python benchmarks/tagger_training.py --json tagger_training.json # about 6 minutes on one core python
    benchmarks/tagger_training.py --quick # tiny sizes

The programs, all with the same sizes and dropout, batches of 10, SGD with momentum, gradients clipped at 5:

baseline  the original's way, from torch's own modules (`baseline.py`): one nn.LSTM a layer over
                 torch.cat, batches in the order of the file, everything padded to the longest sentence of the batch,
                 the CRF's likelihood step by step
crf_tagger       allennlp-models' own CrfTagger over our embedders, batches in the order of the file
ldnet_tagger     as in training_config/ner.jsonnet: batches of sentences of like length
cached           the same, with the language models' vectors in a `cache`; its first epoch, which fills it, apart
cached float16   the same, with `cache_dtype: "float16"`

Each program runs in a separate process, in random order per round; an epoch is timed from the indexed sentences to the
last update, after a few batches that are not timed. Time is the process's CPU time with one thread, else wall time;
memory is the peak resident size, minus the size before the construction of the model. It includes cached pages of the
cache's file, which the system can reclaim. Before the epochs, the baseline is checked against the tagger: same weights,
no dropout, same loss.

The arithmetic limit: multiply-adds of the language models once, or not at all where they are cached, and of the rest
three times (the gradients of a product are two products), two operations each, at the rate of a float32 product that
each process measures before and after its epochs. No padding and no CRF in it. With `--device cuda` time is wall time
with synchronization, and memory the device's peak. GPU speed has not been measured.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from allennlp.common import Params  # noqa: E402
from allennlp.data import DataLoader, DatasetReader, Instance  # noqa: E402
from allennlp.models import Model  # noqa: E402
from allennlp.nn.util import get_text_field_mask, move_to_device  # noqa: E402
from baseline import (  # noqa: E402
    BaselineCharacters,
    BaselineLanguageModel,
    one_direction,
)
from lm_training import clock, peak_megabytes, product_rates, profile  # noqa: E402
from synthetic_taggers import (  # noqa: E402
    Sizes,
    make_lengths,
    make_sentences,
    make_vocabulary,
    make_words,
    tagger_config,
)

from ldnet_allennlp.commands.report.component_costs import component_costs  # noqa: E402
from ldnet_allennlp.modules.rnn.ld_rnn import reverse_sequences  # noqa: E402

WAYS = ("baseline", "crf_tagger", "ldnet_tagger", "cached", "cached float16")
BATCH_SIZE, CLIP = 10, 5.0
# The size of CoNLL-2003's training set, for times per epoch.
CONLL_WORDS = 203_621


class BaselineTraining(torch.nn.Module):
    """
    # Parameters

    tagger : `Model`
        An "ldnet_tagger" whose weights are taken.
    """

    def __init__(self, tagger: Model, dropout: float) -> None:
        super().__init__()
        embedders = tagger.text_field_embedder._token_embedders
        self.words, self.lm = embedders["tokens"], embedders["ldnet"]
        self.characters = BaselineCharacters(embedders["token_characters"])
        self.characters.vectors.weight.requires_grad_(True)
        self.language_models = torch.nn.ModuleList(
            map(BaselineLanguageModel, self.lm.language_models.values())
        )
        self.encoder = torch.nn.ModuleList(
            one_direction(tagger.encoder._module, reverse) for reverse in (False, True)
        )
        self.tag_projection = tagger.tag_projection_layer
        self.crf = tagger.crf
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, tokens: dict[str, Any], tags: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        mask = get_text_field_mask(tokens)
        lengths = mask.sum(dim=1)
        token_ids = tokens["ldnet"]["token_ids"]
        read = torch.cat([model(token_ids, lengths) for model in self.language_models], dim=2)
        parts = [
            self.lm.activation(self.lm.projection(self.dropout(read))),
            self.characters(tokens["token_characters"]["token_characters"]),
            self.words(tokens["tokens"]["tokens"]),
        ]
        vectors = self.dropout(torch.cat(parts, dim=2))
        forward, _ = self.encoder[0](vectors)
        backward, _ = self.encoder[1](reverse_sequences(vectors, lengths))
        encoded = torch.cat([forward, reverse_sequences(backward, lengths)], dim=2)
        return {"loss": self.negative_log_likelihood(self.tag_projection(self.dropout(encoded)), tags, mask)}

    def negative_log_likelihood(
        self, logits: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """As the original's `CRFLoss`: all pairs of tags at all steps, then a sum over one tag of each step."""
        pairs = logits.unsqueeze(2) + self.crf.transitions  # (B, T, from, to)
        total = logits[:, 0] + self.crf.start_transitions  # (B, N)
        true = total.gather(1, tags[:, :1]).squeeze(1)  # (B,)
        for step in range(1, logits.size(1)):
            real = mask[:, step]
            following = torch.logsumexp(total.unsqueeze(2) + pairs[:, step], dim=1)
            total = torch.where(real.unsqueeze(1), following, total)
            rows = torch.arange(len(tags), device=tags.device)
            true = true + pairs[rows, step, tags[:, step - 1], tags[:, step]] * real
        last = tags.gather(1, mask.sum(dim=1, keepdim=True) - 1).squeeze(1)
        total = torch.logsumexp(total + self.crf.end_transitions, dim=1)
        return (total - true - self.crf.end_transitions[last]).mean()


def make_config(way: str, sizes: Sizes, dropout: float, cache: str) -> dict[str, Any]:
    config = tagger_config(sizes, "unpruned")
    model = config["model"]
    embedders = model["text_field_embedder"]["token_embedders"]
    model["dropout"] = embedders["ldnet"]["dropout"] = dropout
    if way == "crf_tagger":
        model["type"] = "crf_tagger"
    if way.startswith("cached"):
        embedders["ldnet"]["cache"] = cache
        embedders["ldnet"]["cache_dtype"] = "float16" if way == "cached float16" else "float32"
    sampler = {"type": "bucket", "batch_size": BATCH_SIZE, "sorting_keys": ["tokens"]}
    in_order = way in ("baseline", "crf_tagger")
    config["data_loader"] = {"batch_size": BATCH_SIZE} if in_order else {"batch_sampler": sampler}
    return config


def build(way: str, arguments: argparse.Namespace, folder: Path) -> tuple[Model, DataLoader, list[Instance]]:
    """An "ldnet_tagger" or a "crf_tagger" with random language models, and indexed sentences in batches."""
    sizes = published(arguments)
    rng = random.Random(arguments.seed)
    words = make_words(max(sizes.lm_words, sizes.tagger_words) + 2000, rng)
    sentences = make_sentences(words, make_lengths(arguments.sentences, rng), rng)
    text = folder / "train.conll"
    with open(text, "w", encoding="utf-8") as file:
        for sentence in sentences:
            tags = ("B-T0" if rng.random() < 0.15 else "O" for _ in sentence)
            file.write("".join(f"{word} {tag}\n" for word, tag in zip(sentence, tags)) + "\n")
    config = make_config(way, sizes, arguments.dropout, str(folder / "cache"))
    vocab = make_vocabulary(sizes, words, True)
    reader = DatasetReader.from_params(Params(config["dataset_reader"]))
    loader = DataLoader.from_params(Params(config["data_loader"]), reader=reader, data_path=str(text))
    loader.index_with(vocab)
    torch.manual_seed(arguments.seed)
    model = Model.from_params(Params(config["model"]).duplicate(), vocab=vocab)
    with torch.no_grad():
        for language_model in model.text_field_embedder._token_embedders["ldnet"].language_models.values():
            language_model.embedding.weight.uniform_(-0.1, 0.1)
    return model, loader, list(loader.iter_instances())


def published(arguments: argparse.Namespace) -> Sizes:
    if arguments.quick:
        return Sizes(
            layers=2, hidden=8, lm_words=500, lm_dim=8, tagger_words=300, char_hidden=8, encoder_hidden=8
        )
    return Sizes(lm_words=arguments.vocabulary)


def check_equal_losses(model: Model, plain: BaselineTraining, loader: DataLoader) -> None:
    batch = next(iter(loader))
    with torch.no_grad():
        model.eval()
        plain.eval()
        expected, found = float(model(**batch)["loss"]), float(plain(**batch)["loss"])
    if abs(found - expected) > 1e-4 * abs(expected):
        raise SystemExit(f"The baseline's loss is {found}, and the tagger's {expected}.")


def measure(way: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Times the epochs of one way, in this process."""
    torch.set_num_threads(arguments.threads)
    before = peak_megabytes(arguments.device)
    tagger, loader, instances = build(way, arguments, folder)
    words = sum(len(instance["tokens"].tokens) for instance in instances)
    characters = sum(len(token.text) for instance in instances for token in instance["tokens"].tokens)
    model: torch.nn.Module = tagger
    if way == "baseline":
        model = BaselineTraining(tagger, arguments.dropout)
        check_equal_losses(tagger, model, loader)
    model.to(arguments.device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.015, momentum=0.9)

    def step(batch: dict[str, Any]) -> None:
        for parameter in trained:
            parameter.grad = None
        model(**move_to_device(batch, torch.device(arguments.device)))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()

    def epoch() -> float:
        started = clock(arguments)
        for batch in loader:
            step(batch)
        return clock(arguments) - started

    result: dict[str, Any] = {"words": words}
    if way.startswith("cached"):
        result["first_epoch"] = epoch()
    else:
        for batch in take(loader, 3):
            step(batch)
    rates = [product_rates(arguments)["float32"]]
    result["seconds"] = [epoch() for _ in range(arguments.epochs)]
    rates.append(product_rates(arguments)["float32"])
    result["megabytes"] = peak_megabytes(arguments.device) - before
    costs = component_costs(tagger, characters / words).components
    frozen = sum(cost for name, cost in costs.items() if name.startswith("LM ") and name != "LM projection")
    needed = 3 * (sum(costs.values()) - frozen) + (0 if way.startswith("cached") else frozen)
    result["limit"] = 2 * needed * words / statistics.mean(rates)
    result["rate"] = statistics.mean(rates)
    stored = sum(path.stat().st_size for path in (folder / "cache").glob("*") if path.is_file())
    result["bytes_a_word"] = stored / words
    if arguments.profile:
        batch = next(iter(loader))
        result["profile"] = profile(lambda: step(batch), arguments.device)
    return result


def take(loader: DataLoader, count: int) -> Iterator[dict[str, Any]]:
    for _, batch in zip(range(count), loader):
        yield batch


def run(way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own, with a folder of its own."""
    command = [sys.executable, __file__, "--measure", way]
    for name in ("sentences", "epochs", "seed", "threads", "device", "dropout", "vocabulary"):
        command.append(f"--{name}={getattr(arguments, name)}")
    command += [f"--{name}" for name in ("profile", "quick") if getattr(arguments, name)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    if finished.returncode:
        raise SystemExit(f"{way}: {finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def per_word(result: dict[str, Any]) -> list[float]:
    """Milliseconds."""
    return [1e3 * seconds / result["words"] for seconds in result["seconds"]]


def report(results: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """A table: time and memory are compared with the first of the ways."""
    print(
        f"{'way':<17}{'ms a word':>10}{'spread':>17}{'words/s':>9}{'epoch of CoNLL-2003':>21}{'MB':>7}{'of limit':>9}"
        f"   time, memory against {arguments.ways[0]}"
    )
    base = results[arguments.ways[0]]
    for way in arguments.ways:
        result = results[way]
        values = per_word(result)
        median = statistics.median(values)
        print(
            f"{way:<17}{median:>10.3f}{f'{min(values):.3f} - {max(values):.3f}':>17}{1e3 / median:>9.0f}"
            f"{f'{median * CONLL_WORDS / 60e3:.1f} min':>21}{result['megabytes']:>7.0f}"
            f"{100 * result['limit'] / statistics.median(result['seconds']):>8.0f}%"
            f"   {statistics.median(per_word(base)) / median:.2f}x as fast, "
            f"{result['megabytes'] / base['megabytes']:.2f}x memory"
        )
    for way in arguments.ways:
        result = results[way]
        if result["bytes_a_word"]:
            first = 1e3 * statistics.median(result["first_epochs"]) / result["words"]
            print(
                f"{way}: {result['bytes_a_word']:.0f} bytes a word on disk, so "
                f"{result['bytes_a_word'] * CONLL_WORDS / 1e9:.1f} GB for CoNLL-2003; the first epoch takes "
                f"{first:.3f} ms a word"
            )
        if result.get("profile"):
            print(f"\n{way}: ms and calls of a step's operations")
            for name, milliseconds, calls in result["profile"]:
                print(f"  {milliseconds:>9.1f}{calls:>7}  {name}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--vocabulary", type=int, default=33_000, help="of the language models")
    parser.add_argument("--sentences", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=2, help="timed epochs of each process")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--profile", action="store_true", help="one more step of each process, profiled")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only whether it runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="a file for the results")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sentences, arguments.epochs, arguments.rounds = 40, 1, 1
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.measure:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(arguments.measure, arguments, Path(folder))))
        return
    setting = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "batch_size": BATCH_SIZE,
        "sizes": published(arguments)._asdict(),
        **{name: value for name, value in vars(arguments).items() if name not in ("measure", "json")},
    }
    print(json.dumps(setting))
    shuffled = random.Random(arguments.seed)
    results: dict[str, dict[str, Any]] = {}
    for _ in range(arguments.rounds):
        for way in shuffled.sample(arguments.ways, len(arguments.ways)):
            measured = run(way, arguments)
            result = results.setdefault(
                way, {**measured, "way": way, "seconds": [], "first_epochs": [], "megabytes": 0.0}
            )
            result["seconds"] += measured["seconds"]
            result["first_epochs"] += [measured["first_epoch"]] if "first_epoch" in measured else []
            result["megabytes"] = max(result["megabytes"], measured["megabytes"])
    report(results, arguments)
    if arguments.json:
        written = {"setting": setting, "results": list(results.values())}
        Path(arguments.json).write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
