"""What `tagging.py` measures inside of one process: the network alone, a profile, memory."""

import random
import time
from collections import defaultdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, List

import straightforward
import torch
from allennlp.data import Batch, Instance
from allennlp.models import Model
from allennlp.models.archival import load_archive
from allennlp.nn.util import move_to_device
from allennlp.predictors import Predictor
from synthetic_taggers import Sizes, build_tagger, make_lengths, make_sentences, make_words, prepare

from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.predictors.indexed_words import IndexedWords
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor

OURS, BFLOAT16, STRAIGHTFORWARD = "ours", "ours, bfloat16", "straightforward"
LONG_LINE = 10_000


def prepare_task(task: Dict[str, Any]) -> Dict[str, Any]:
    """Writes archives and text, see `synthetic_taggers.prepare`."""
    sizes = Sizes(lm_words=task["lm_words"])
    return prepare(Path(task["folder"]), task["kinds"], sizes, task["sentences"], task["seed"])._asdict()


def products_per_second(device: torch.device) -> float:
    """Multiply-adds a second in a large matrix product: the best of several."""
    size = 1536 if device.type == "cpu" else 8192
    one, other = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    best = float("inf")
    for _ in range(12):
        synchronize(device)
        before = time.perf_counter()
        torch.mm(one, other)
        synchronize(device)
        best = min(best, time.perf_counter() - before)
    return size**3 / best


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def our_batches(
    predictor: LdnetTaggerPredictor, instances: List[Instance], device: torch.device
) -> List[Any]:
    """The tensors of the batches that the predictor forms of these sentences."""
    batches = predictor._tagger_batches
    words = None
    tensors = []
    for positions in batches._batches(instances):
        for position in positions:
            predictor._dataset_reader.apply_token_indexers(instances[position])
        fields: Any = [instances[position]["tokens"] for position in positions]
        words = words or IndexedWords(fields[0]._token_indexers, predictor._model.vocab)
        tensors.append({"tokens": move_to_device(words.tensors([field.tokens for field in fields]), device)})
    return tensors


def plain_batches(model: Model, reader: Any, instances: List[Instance], device: torch.device) -> List[Any]:
    """The tensors of batches of 32, in the order of the sentences, as AllenNLP makes them."""
    tensors = []
    for start in range(0, len(instances), 32):
        group = instances[start : start + 32]
        for instance in group:
            reader.apply_token_indexers(instance)
        batch = Batch(group)
        batch.index_instances(model.vocab)
        tensors.append(move_to_device(batch.as_tensor_dict(), device))
    return tensors


def network_task(task: Dict[str, Any]) -> Dict[str, Any]:
    """The two ways in turn, from tensors to tags."""
    device = torch.device(task["device"])
    archive = load_archive(
        task["setting"]["archives"][task["kind"]], cuda_device=0 if device.type == "cuda" else -1
    )
    model = archive.model
    assert isinstance(model, LdnetTagger)
    predictor = LdnetTaggerPredictor(model, archive.dataset_reader)
    instances = list(predictor._dataset_reader.read(task["setting"]["text"]))
    plain = straightforward.StraightforwardTagger(model).to(device).eval()
    rate = products_per_second(device)
    ours = our_batches(predictor, instances, device)
    theirs = plain_batches(plain, predictor._dataset_reader, instances, device)

    def run_ours() -> None:
        with torch.no_grad():
            for batch in ours:
                model(**batch)
        synchronize(device)

    def run_bfloat16() -> None:
        model.autocast = torch.bfloat16
        run_ours()
        model.autocast = None

    def run_theirs() -> None:
        with torch.no_grad():
            for batch in theirs:
                plain(**batch)
        synchronize(device)

    runs: Dict[str, Callable[[], None]] = {OURS: run_ours, STRAIGHTFORWARD: run_theirs}
    if task["autocast"]:
        runs[BFLOAT16] = run_bfloat16
    seconds: Dict[str, List[float]] = {way: [] for way in runs}
    cpu_seconds: Dict[str, List[float]] = {way: [] for way in runs}
    shuffle = random.Random(task["seed"])
    run_ours()  # what is only done once
    for _ in range(task["rounds"]):
        for way in shuffle.sample(list(runs), len(runs)):
            before, cpu = time.perf_counter(), time.process_time()
            runs[way]()
            seconds[way].append(time.perf_counter() - before)
            cpu_seconds[way].append(time.process_time() - cpu)
        rate = max(rate, products_per_second(device))
    cost = component_costs(model, task["setting"]["characters_per_word"]).total
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "num_words": task["setting"]["num_words"],
        "multiply_adds": cost,
        "products_per_second": rate,
        "limit_words_per_second": rate / cost,
    }


class Clock:
    """The CPU time spent in functions, by label; what a function calls counts for its own label."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = defaultdict(float)
        self._inner = [0.0]
        self._undo: List[Callable[[], None]] = []

    def wrap(self, owner: Any, name: str, label: str) -> None:
        function = getattr(owner, name)
        own = name in vars(owner)

        def timed(*args: Any, **options: Any) -> Any:
            return self.run(label, lambda: function(*args, **options))

        setattr(owner, name, timed)
        self._undo.append(lambda: setattr(owner, name, function) if own else delattr(owner, name))

    def run(self, label: str, function: Callable[[], Any]) -> Any:
        self._inner.append(0.0)
        before = time.process_time()
        try:
            return function()
        finally:
            spent = time.process_time() - before
            self.seconds[label] += spent - self._inner.pop()
            self._inner[-1] += spent

    def undo(self) -> None:
        for undo in reversed(self._undo):
            undo()


def profile_task(task: Dict[str, Any]) -> Dict[str, Dict[str, float]]:
    """
    Milliseconds for 1,000 words, by what they are spent on, with one thread, for each way; and how many of them are
    torch's own LSTM's, whatever part it serves.
    """
    path = task["setting"]["archives"][task["kind"]]
    results = {}
    for way in (OURS, STRAIGHTFORWARD):
        archive = load_archive(path)
        model: Any = archive.model
        assert isinstance(model, LdnetTagger)
        clock, kernel = Clock(), Clock()
        for owner in (torch, torch._VF):
            kernel.wrap(owner, "lstm", "torch.lstm")
        predictor: Predictor
        if way == OURS:
            predictor = LdnetTaggerPredictor(model, archive.dataset_reader, workers=1)
            for module in model.modules():
                if isinstance(module, SentenceCharacterLstm):
                    clock.wrap(module, "forward", "characters")
                elif isinstance(module, LdnetEmbedder):
                    clock.wrap(module, "forward", "language models")
            clock.wrap(model.encoder, "forward", "encoder")
            clock.wrap(model.crf, "viterbi_tags", "CRF")
            clock.wrap(model, "_add_probabilities", "confidences")
            clock.wrap(IndexedWords, "tensors", "indexing")
        else:
            predictor = straightforward.StraightforwardPredictor(model, archive.dataset_reader)
            model = predictor._model
            clock.wrap(model.characters, "forward", "characters")
            for module in model.language_models:
                clock.wrap(module, "forward", "language models")
            for module in model.encoder:
                clock.wrap(module, "forward", "encoder")
            clock.wrap(model, "decode", "CRF")
            for name in ("index_instances", "as_tensor_dict"):
                clock.wrap(Batch, name, "indexing")
        _profile_pass(Clock(), predictor, task["setting"]["text"], way, 64)  # what is only done once
        clock.seconds.clear()
        kernel.seconds.clear()
        instances = _profile_pass(clock, predictor, task["setting"]["text"], way, 1000)
        clock.undo()
        kernel.undo()
        words = sum(len(instance["tokens"]) for instance in instances)  # type: ignore[arg-type]
        parts = (
            "reading",
            "indexing",
            "characters",
            "language models",
            "encoder",
            "CRF",
            "confidences",
            "output",
        )
        results[way] = {part: 1e6 * clock.seconds[part] / words for part in (*parts, "other")}
        results[way]["sum"] = sum(results[way].values())
        results[way]["torch.lstm"] = 1e6 * kernel.seconds["torch.lstm"] / words
    return results


def _profile_pass(clock: Clock, predictor: Predictor, text: str, way: str, number: int) -> List[Instance]:
    """Tags the first sentences of a text, and gives them."""
    reader = predictor._dataset_reader
    instances = clock.run("reading", lambda: list(islice(reader.read(text), number)))
    size = len(instances) if way == OURS else 32
    for start in range(0, len(instances), size):
        outputs = clock.run(
            "other", partial(predictor.predict_batch_instance, instances[start : start + size])
        )
        clock.run("output", partial(list, map(predictor.dump_line, outputs)))
    return instances


def _megabytes(name: str) -> float:
    """ "VmRSS", what is resident now, or "VmHWM", the most since the last `_forget_peak`."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_task(task: Dict[str, Any]) -> Dict[str, Any]:
    """What tagging takes beside the model, with sentences of usual lengths and with a very long one. Linux only."""
    rng = random.Random(task["seed"])
    sizes = Sizes(lm_words=task["lm_words"])
    words = make_words(sizes.lm_words + 2000, rng)
    before = _megabytes("VmRSS")
    model, config = build_tagger(sizes, "unpruned", words, task["seed"])
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) / 2**20
    from allennlp.common import Params
    from allennlp.data import DatasetReader

    reader = DatasetReader.from_params(Params(config["dataset_reader"]))
    predictor = LdnetTaggerPredictor(model, reader)
    result: Dict[str, Any] = {"lm_words": task["lm_words"], "model_megabytes": size, "long_line": LONG_LINE}
    result["loaded_megabytes"] = _megabytes("VmRSS") - before
    texts = {
        "tagging": make_sentences(words, make_lengths(400, rng), rng),
        "long_line": make_sentences(words, [LONG_LINE], rng),
    }
    for name, sentences in texts.items():
        _forget_peak()
        for _ in predictor.predict_sentences(sentences):
            pass
        result[f"{name}_megabytes"] = _megabytes("VmHWM") - before
        result[f"{name}_ratio"] = result[f"{name}_megabytes"] / size
    return result
