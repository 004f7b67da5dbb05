"""
Language models of equal size after equal time, on equal text: this project's LD-RNN, a plain stacked LSTM with the
same softmax, and allennlp-models' `LanguageModel` (sampled softmax, one instance a sentence).

    python benchmarks/lm_quality.py eltec/train.txt.gz eltec/valid.txt eltec/test.txt --seconds 600 --json out.json

All have the sizes of training_config/lm_eltec.jsonnet: the LD-RNN as it stands there; the hidden size of the two LSTMs
(2 layers) is chosen so that the recurrent layers, with the projection after them, have as many parameters. Each is
trained with one thread until the process has used that much CPU time, data loading included (CPU time and not wall
time, so that other work on the machine does not matter); the learning rate rises in the first twentieth of the time
and falls to 0 with what is left of it. Perplexities are of the whole held-out texts, every token once, the boundary
after each sentence included, with the same vocabulary; the exact softmax is used for all.
"""

import argparse
import json
import logging
import math
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy  # noqa: E402
import torch  # noqa: E402
from allennlp.common import Params  # noqa: E402
from allennlp.data import Vocabulary  # noqa: E402
from allennlp.data.data_loaders import MultiProcessDataLoader  # noqa: E402
from allennlp.data.samplers import BucketBatchSampler  # noqa: E402
from allennlp.models import Model  # noqa: E402
from allennlp.training.optimizers import Optimizer  # noqa: E402

import ldnet_allennlp  # noqa: E402, F401
from ldnet_allennlp.data.lm_stream_loader import LmStreamLoader  # noqa: E402
from ldnet_allennlp.data.lm_stream_reader import LmStreamReader  # noqa: E402

EMBEDDING_DIM, HIDDEN_SIZE, NUM_LAYERS, PROJECTION_DIM = 200, 100, 5, 200
LEARNING_RATE, WARMUP, SAMPLES = 0.003, 0.05, 1024


def lstm_parameters(input_size: int, hidden_size: int) -> int:
    return 4 * hidden_size * (input_size + hidden_size + 2)


def equal_hidden_size() -> int:
    """The size of two LSTM layers and a projection with the parameters of the LD-RNN and its projection."""
    wanted = sum(
        lstm_parameters(EMBEDDING_DIM + HIDDEN_SIZE * layer, HIDDEN_SIZE) for layer in range(NUM_LAYERS)
    )
    wanted += (EMBEDDING_DIM + HIDDEN_SIZE * NUM_LAYERS) * PROJECTION_DIM

    def given(size: int) -> int:
        return lstm_parameters(EMBEDDING_DIM, size) + lstm_parameters(size, size) + size * PROJECTION_DIM

    return min(range(10, 1000), key=lambda size: abs(given(size) - wanted))


def config(name: str) -> Dict[str, Any]:
    embedder = {"type": "embedding", "embedding_dim": EMBEDDING_DIM, "sparse": True}
    bound = math.sqrt(3 / EMBEDDING_DIM)
    model: Dict[str, Any] = {
        "text_field_embedder": {"token_embedders": {"tokens": embedder}},
        "initializer": {
            "regexes": [["token_embedder_tokens.weight", {"type": "uniform", "a": -bound, "b": bound}]]
        },
    }
    if name == "allennlp-models LanguageModel":
        size = equal_hidden_size()
        lstm = {"type": "lstm", "input_size": EMBEDDING_DIM, "hidden_size": size, "num_layers": 2}
        projection = {
            "input_dim": size,
            "num_layers": 1,
            "hidden_dims": PROJECTION_DIM,
            "activations": "relu",
        }
        encoders = [lstm, {"type": "feedforward", "feedforward": projection}]
        return {
            **model,
            "type": "language_model",
            "contextualizer": {"type": "compose", "encoders": encoders},
            "num_samples": SAMPLES,
            "sparse_embeddings": True,
        }
    sizes = {"input_size": EMBEDDING_DIM, "stateful": True}
    if name == "ld_rnn":
        sizes.update(hidden_size=HIDDEN_SIZE, num_layers=NUM_LAYERS, dropout=0.01, layer_dropout=0.5)
    else:
        sizes.update(hidden_size=equal_hidden_size(), num_layers=2, dropout=0.01)
    return {
        **model,
        "type": "adaptive_language_model",
        "contextualizer": {"type": name, **sizes},
        "projection_dim": PROJECTION_DIM,
        "projection_activation": "relu",
        "cutoffs": [2000, 10000],
        "tail_samples": SAMPLES,
        "autocast": "bfloat16",
    }


def endless(batches: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    while True:
        yield from batches()


def loader(name: str, reader: LmStreamReader, path: str, vocab: Vocabulary, training: bool) -> Any:
    if name != "allennlp-models LanguageModel":
        made: Any = LmStreamLoader(reader, path, 128 if training else 8, 20)
    elif training:
        # As many sentences as have the words of our batches; sorted by length within what memory holds.
        sampler = BucketBatchSampler(112, sorting_keys=["source"])
        made = MultiProcessDataLoader(
            reader, path, batch_sampler=sampler, max_instances_in_memory=20_000, quiet=True
        )
    else:
        made = MultiProcessDataLoader(reader, path, batch_size=4, quiet=True)
    made.index_with(vocab)
    return made


@torch.no_grad()
def perplexity(model: Model, batches: Any) -> float:
    model.eval()
    total, count = 0.0, 0.0
    for batch in batches:
        outputs = model(**batch)
        weight = float(outputs["batch_weight"])
        total += float(outputs["loss"]) * weight
        count += weight
    return math.exp(total / count)


def train(name: str, vocab: Vocabulary, arguments: argparse.Namespace) -> Dict[str, Any]:
    torch.manual_seed(arguments.seed)
    numpy.random.seed(arguments.seed)
    model = Model.from_params(Params(config(name)), vocab=vocab)
    kind = (
        {"type": "dense_sparse_adam"} if "LanguageModel" in name else {"type": "lazy_adam", "grad_norm": 5.0}
    )
    optimizer = Optimizer.from_params(
        Params({**kind, "lr": LEARNING_RATE}), model_parameters=list(model.named_parameters())
    )
    reader = LmStreamReader()
    batches = loader(name, reader, arguments.train, vocab, training=True)  # the stream's ids are made here
    model.train()
    started, steps, tokens = time.process_time(), 0, 0
    for batch in endless(lambda: iter(batches)):
        used = (time.process_time() - started) / arguments.seconds
        if used >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(max(used, 0.01 * WARMUP) / WARMUP, 1 - used)
        optimizer.zero_grad()
        outputs = model(**batch)
        outputs["loss"].backward()
        optimizer.step()
        steps += 1
        tokens += int(outputs["batch_weight"])
    own = sum(parameter.numel() for parameter in model._contextualizer.parameters())
    projection = getattr(model, "_projection", None)
    if projection is not None:
        own += sum(parameter.numel() for parameter in projection.parameters())
    return {
        "model": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "recurrent_and_projection_parameters": own,
        "steps": steps,
        "tokens": tokens,
        "tokens_per_cpu_second": tokens / arguments.seconds,
        "perplexities": {
            path: perplexity(model, loader(name, reader, path, vocab, training=False))
            for path in arguments.heldout
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", help="text to train on, one sentence a line")
    parser.add_argument("heldout", nargs="+", help="texts to report perplexities of")
    parser.add_argument("--seconds", type=float, default=600.0, help="CPU seconds of training for each model")
    parser.add_argument("--min-count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="a file for the results")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    counts = LmStreamReader().count_tokens(arguments.train)
    vocab = Vocabulary(counter={"tokens": counts}, min_count={"tokens": arguments.min_count})
    setting = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": 1,
        "seed": arguments.seed,
        "cpu_seconds": arguments.seconds,
        "vocabulary": vocab.get_vocab_size(),
    }
    print(json.dumps(setting))
    results: List[Dict[str, Any]] = []
    for name in ("ld_rnn", "stacked_rnn", "allennlp-models LanguageModel"):
        results.append(train(name, vocab, arguments))
        print(json.dumps(results[-1]), flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"setting": setting, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
