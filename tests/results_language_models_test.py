"""The scripts of benchmarks/results/ that train language models and cut layers out of them, on a few sentences."""

import importlib
import json
import sys

import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.common import Params
from allennlp.models import Model

from ldnet_allennlp.common.archives import read_archive
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from tests.resources import FIXTURES, ROOT

pytestmark = pytest.mark.slow
TEXT, HELDOUT = FIXTURES / "lm" / "train.txt", FIXTURES / "lm" / "valid.txt"
SCRIPTS = ("corpora", "run", "language_models", "lm_pruning", "lm_tables", "tables")


@pytest.fixture
def scripts(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "results"))
    threads = torch.get_num_threads()
    module = importlib.import_module("language_models")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "language_models.jsonl")
    monkeypatch.setattr(module, "SAMPLES", 20)  # of the text's 187 words
    monkeypatch.setattr(module, "CUTOFFS", [50, 100])
    yield importlib.import_module
    torch.set_num_threads(threads)
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def run(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    script.main()


def train(script, monkeypatch, tmp_path, rows, seconds=0.2):
    given = ("--train", TEXT, "--heldout", f"valid={HELDOUT}", "--min-count", 1, "--seconds", seconds)
    run(script, monkeypatch, tmp_path / "out", "--rows", *rows, *given)
    lines = (tmp_path / "language_models.jsonl").read_text().splitlines()
    return {line["row"]: line for line in map(json.loads, lines)}


def test_the_rows_have_equal_sizes(scripts):
    script = scripts("language_models")
    vocab = script.vocabulary([str(TEXT)], 1)
    sizes = {}
    for row in script.ROWS:
        model = Model.from_params(Params(script.model_config(row)), vocab=vocab)
        sizes[row] = script.recurrent_parameters(model)
    assert max(sizes.values()) < 1.01 * min(sizes.values())
    assert sizes["ld-rnn"] == sizes["ld-rnn-plain"]


def test_a_row_is_trained_once_and_scored_on_every_token(scripts, monkeypatch, tmp_path):
    script = scripts("language_models")
    (line,) = train(script, monkeypatch, tmp_path, ["ld-rnn"]).values()
    archive = str(tmp_path / "out" / "ld-rnn" / "1" / "model.tar.gz")
    found = evaluate_from_archive(archive, str(HELDOUT))
    assert found["perplexity"] == pytest.approx(line["perplexities"]["valid"], abs=2e-3)
    monkeypatch.setattr(script, "run_row", None)
    assert train(script, monkeypatch, tmp_path, ["ld-rnn"]) == {"ld-rnn": line}


def test_the_sentences_of_the_last_row_are_all_there(scripts, tmp_path):
    shuffled = (
        scripts("language_models").shuffled([str(TEXT), str(HELDOUT)], tmp_path / "all.txt").read_text()
    )
    lines = [line for path in (TEXT, HELDOUT) for line in path.read_text().splitlines()]
    assert shuffled.splitlines() != lines and sorted(shuffled.splitlines()) == sorted(lines)


@pytest.fixture
def model(scripts):
    language_models = scripts("language_models")
    torch.manual_seed(1)
    config = {**language_models.model_config("ld-rnn"), "autocast": None}
    config["contextualizer"]["dropout"] = 0.0
    return Model.from_params(Params(config), vocab=language_models.vocabulary([str(TEXT)], 1)).eval()


def batches_of(scripts, model):
    language_models = scripts("language_models")
    return language_models.heldout_batches("ld-rnn", str(HELDOUT), model.vocab)


def test_a_cut_is_a_gate_of_zero(scripts, model):
    """Layers that are cut for good are as if their gate were 0, and the weights are as before."""
    pruning, language_models = scripts("lm_pruning"), scripts("language_models")
    batches, layers = batches_of(scripts, model), [1, 3]
    uncut = language_models.perplexity(model, batches)
    found = pruning.perplexity_without(model, layers, batches, True)
    assert language_models.perplexity(model, batches) == uncut
    encoder = model._contextualizer
    model._contextualizer = selection = LayerSelection(encoder)
    with torch.no_grad():
        selection.gates[layers] = 0.0
    assert found == pytest.approx(language_models.perplexity(model, batches), abs=2e-3)
    assert abs(found - uncut) > 0.01


def test_hidden_layers_are_those_of_layer_wise_dropout(scripts, model):
    pruning = scripts("lm_pruning")
    (stack,) = model._contextualizer.stacks
    inputs = torch.randn(2, 6, stack.layers[0].input_size)
    hidden = iter([True, False, True, False, True])
    stack.train()
    stack.layer_dropout.is_hidden = lambda: next(hidden)
    with torch.no_grad():
        wanted, _ = stack(inputs)
    del stack.layer_dropout.is_hidden
    stack.eval()
    with pruning.Restored(model):
        pruning.cut(model, [0, 2, 4], False)
        found, _ = stack(inputs)
    torch.testing.assert_close(found, wanted)


def test_pruning_from_end_to_end(scripts, monkeypatch, tmp_path):
    """Every set of layers once, and gates that choose ever larger ones; then the tables and the picture."""
    pruning, tables = scripts("lm_pruning"), scripts("tables")
    train(scripts("language_models"), monkeypatch, tmp_path, ["ld-rnn", "ld-rnn-plain"])
    monkeypatch.setattr(pruning, "RESULTS", tmp_path / "lm_pruning.jsonl")
    monkeypatch.setattr(pruning, "REFIT", {"windows": 3, "lr": 0.002})
    monkeypatch.setattr(pruning, "GATES", {**pruning.GATES, "lr": 0.5})
    given = ("--test", HELDOUT, "--valid", HELDOUT, "--sentences", 10)
    run(pruning, monkeypatch, tmp_path / "out", *given)
    lines = [json.loads(line) for line in (tmp_path / "lm_pruning.jsonl").read_text().splitlines()]
    for line in lines:
        assert len({tuple(one["layers"]) for one in line["cuts"]}) == 2**5 == len(line["cuts"])
        perplexities = {tuple(one["layers"]): one["cut"] for one in line["cuts"]}
        chosen = [set(one["layers"]) for one in line["gates"]]
        assert chosen[0] == set() and len(chosen) > 1
        assert all(first < second for first, second in zip(chosen, chosen[1:]))
        assert all(one["cut"] == perplexities[tuple(one["layers"])] for one in line["gates"])
        # Nothing is above the top layer.
        assert line["cuts"][0]["hidden"] == next(
            one["hidden"] for one in line["cuts"] if one["layers"] == [5]
        )

    for cell in (tmp_path / "out").rglob("pruning.json"):
        cell.unlink()
    monkeypatch.setattr(pruning, "FEW_LAYERS", tmp_path / "few_layers.jsonl")
    run(pruning, monkeypatch, tmp_path / "out", *given, "--left", 4, 5)
    few = [json.loads(line) for line in (tmp_path / "few_layers.jsonl").read_text().splitlines()]
    for line, whole in zip(few, lines, strict=True):
        assert sorted(line["cuts"], key=str) == sorted(whole["cuts"][:6], key=str) and "gates" not in line

    (tmp_path / "results.jsonl").write_text("")
    monkeypatch.setattr(tables, "HERE", tmp_path)
    run(tables, monkeypatch, "--plot", tmp_path / "results")
    assert "with layer-wise dropout" in (tmp_path / "results_lm_pruning.svg").read_text()


def test_the_tables(scripts):
    tables = scripts("lm_tables")
    cuts = [{"layers": [], "hidden": 100.0, "cut": 100.0}]
    cuts += [{"layers": [one], "hidden": 101.0 + one, "cut": 110.0 + one} for one in (1, 2)]
    gates = [{"layers": [], "cut": 100.0, "refitted": 90.0}, {"layers": [2], "cut": 112.0, "refitted": 95.0}]
    lines = [{"row": "ld-rnn", "cuts": cuts, "gates": gates}]
    assert tables.pruning_table(lines)[2:] == [
        "| 0 | with layer-wise dropout | 100.0 | 100.0 | 100.0 | 90.0 |",
        "| 1 | with layer-wise dropout | 102.5 | 111.5 (111.0, 112.0) | 112.0 | 95.0 |",
    ]
    assert tables.few_layers_table([{"row": "ordinary", "cuts": cuts}]) == [
        "| language model | 2 of 2 layers | 1 of 2 layers |",
        "|---|---|---|",
        "| ordinary | 100.0 | 111.5 (111 to 112) |",
    ]
    sizes = {
        "recurrent_and_projection_parameters": 1.1e6,
        "parameters": 18.04e6,
        "words_per_cpu_second": 8000,
    }
    runs = [
        {"row": "stacked", "words": 2e6, "perplexities": {"a": value, "b": 2 * value}, **sizes}
        for value in (100.0, 102.0)
    ]
    assert tables.language_model_table(runs)[2:] == [
        "| stacked LSTM | 101.0 ± 1.4 | 202.0 ± 2.8 | 1.10 M | 18.0 M | 2.00 M | 8,000 | 2 |"
    ]


def test_the_tables_read_what_is_recorded(scripts):
    """Whatever stands in the project's own files can be shown."""
    tables, makers = scripts("tables"), scripts("lm_tables")
    for name, make in (
        ("cuts", makers.cuts_table),
        ("language_models", makers.language_model_table),
        ("lm_pruning", makers.pruning_table),
        ("few_layers", makers.few_layers_table),
    ):
        lines = tables.lines_of(name)
        assert not lines or len(make(lines)) > 2


def test_the_archive_of_the_last_row_is_loaded_again(scripts, monkeypatch, tmp_path):
    script = scripts("language_models")
    line = train(script, monkeypatch, tmp_path, ["allennlp"])["allennlp"]
    model = read_archive(str(tmp_path / "out" / "allennlp" / "1" / "model.tar.gz")).model
    batches = script.heldout_batches("allennlp", str(HELDOUT), model.vocab)
    assert script.perplexity(model, batches) == pytest.approx(line["perplexities"]["valid"], abs=2e-3)
