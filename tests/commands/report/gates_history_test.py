import json

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.report.gates_history import read_gates_history
from ldnet_allennlp.training.layer_selection_callback import gates_of
from tests.taggers import build_tagger, set_gates, tagger_params


def write_log(folder, epochs):
    lines = [
        json.dumps({"epoch": epoch, "gates": gates, "kept_layers": 1, "metrics": {}})
        for epoch, gates in epochs
    ]
    (folder / "gates.jsonl").write_text("".join(line + "\n" for line in lines))
    return str(folder / "model.tar.gz")


def test_the_log_of_a_tagger(language_models, tmp_path):
    tagger = build_tagger(tagger_params(language_models, "select"))
    epochs = []
    for epoch in range(3):
        set_gates(tagger.embedder, [1 / (epoch + 1), 0.5, 0.0, 1.0, 0.1 * epoch, 1.0, 0.0, 0.75])
        epochs.append((epoch, gates_of(tagger.model)))
    history = read_gates_history(write_log(tmp_path, epochs))
    assert history.epochs == [0, 1, 2]
    assert list(history.gates) == [
        f"{name} {number}" for name in ("forward", "backward") for number in (1, 2, 3, 4)
    ]
    assert history.gates["forward 1"] == pytest.approx([1.0, 0.5, 1 / 3])
    assert history.gates["backward 1"] == pytest.approx([0.0, 0.1, 0.2])
    assert read_gates_history(str(tmp_path)) == history


def test_a_recovered_run_has_epochs_twice(tmp_path):
    gates = [(0, {"x.forward_lm.selection": [[1.0]]}), (1, {"x.forward_lm.selection": [[0.9]]})]
    again = [(1, {"x.forward_lm.selection": [[0.5]]}), (2, {"x.forward_lm.selection": [[0.0]]})]
    history = read_gates_history(write_log(tmp_path, gates + again))
    assert history == ([0, 1, 2], {"forward 1": [1.0, 0.5, 0.0]})


def test_names_of_other_gates(tmp_path):
    gates = {
        "a.language_models.bidirectional_lm.selection": [[0.1], [0.2]],
        "b.language_models.forward_lm.selection": [[0.3]],
        "encoder": [[0.4]],
    }
    history = read_gates_history(write_log(tmp_path, [(0, gates)]))
    assert history.gates == {
        "forward 1": [0.1],
        "backward 1": [0.2],
        "b.language_models.forward_lm.selection forward 1": [0.3],
        "encoder forward 1": [0.4],
    }


def test_no_log_and_an_empty_one(tmp_path):
    assert read_gates_history(str(tmp_path / "model.tar.gz")) is None
    assert read_gates_history(write_log(tmp_path, [])) is None


@pytest.mark.parametrize("line", ["{", "[]", '{"epoch": 1}', '{"epoch": 1, "gates": {"x": [["a"]]}}'])
def test_a_damaged_log(tmp_path, line):
    path = write_log(tmp_path, [(0, {"x.forward_lm.selection": [[1.0]]})])
    with open(str(tmp_path / "gates.jsonl"), "a") as log:
        log.write(line + "\n")
    with pytest.raises(
        ConfigurationError, match=r"gates\.jsonl, line 2: the gates of an epoch were expected"
    ):
        read_gates_history(path)
