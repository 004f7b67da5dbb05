"""Dataset pickles of the original as CoNLL files."""

import pickle

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.untrusted.pickles import read_pickle
from ldnet_allennlp.convert.datasets import write_dataset
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from tests.convert.originals import CHECKPOINTS, DATASET, sentences


def read(path):
    return [
        (instance["metadata"]["words"], instance["tags"].labels)
        for instance in ConllColumnsReader(label_encoding="IOBES").read(str(path))
    ]


def test_files_are_the_ones_that_were_encoded(tmp_path):
    report = write_dataset(DATASET, str(tmp_path / "conll"))
    for line, split in zip(report, ("train", "dev", "test")):
        assert "recovered" not in line
        found = read(tmp_path / "conll" / f"{split}.conll")
        assert found == read(CHECKPOINTS / "data" / f"{split}.iobes")
        assert found == [tuple(map(list, zip(*sentence))) for sentence in sentences(split)]


def test_words_that_the_language_models_do_not_know(tmp_path):
    """From the lower-cased word and the characters; what neither knows is marked and counted."""
    data = read_pickle(DATASET, "a dataset")
    unknown = {name: data[name]["<unk>"] for name in ("flm_map", "blm_map", "gw_map", "c_map")}
    for split in ("train", "dev", "test"):
        for sentence in data[f"{split}_data"]:
            sentence[0] = [unknown["flm_map"]] * len(sentence[0])
            sentence[1] = [unknown["blm_map"]] * len(sentence[0])
    path = tmp_path / "x.pk"
    path.write_bytes(pickle.dumps(data, protocol=3))
    report = write_dataset(str(path), str(tmp_path / "conll"))
    known = {word for word, number in data["gw_map"].items() if number != unknown["gw_map"]}
    alphabet = set(data["c_map"])
    lost = 0
    for found, true in zip(read(tmp_path / "conll" / "train.conll"), sentences("train")):
        for word, (truth, _) in zip(found[0], true):
            if truth.lower() in known:
                assert word.lower() == truth.lower()
                if all(letter in alphabet for letter in truth.lower()):
                    assert word == truth
            else:
                expected = "".join(letter if letter in alphabet else "\ufffd" for letter in truth)
                assert word == expected
                lost += "\ufffd" in expected
    assert lost > 0 and f"{lost} could not be recovered" in report[0]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: data.pop("c_map"), "has no c_map"),
        (lambda data: data.update(train_data=3), "train_data of .* a list of sentences"),
        (lambda data: data["dev_data"][1].pop(), "sentence 1 was expected to be five lists"),
        (lambda data: data["dev_data"][1][4].pop(), "sentence 1 was expected to be five lists"),
        (lambda data: data["dev_data"][1][0].__setitem__(0, 10**6), "sentence 1 has a number"),
        (lambda data: data["dev_data"][1][0].__setitem__(0, -1), "sentence 1 has a number"),
        (lambda data: data["dev_data"][1][4].__setitem__(0, "x"), "sentence 1 has a number"),
        (lambda data: data["y_map"].update(O=99), "y_map was expected to be a map"),
        (lambda data: data["dev_data"][1][4].__setitem__(0, data["y_map"]["<s>"]), "sentence boundary"),
        (lambda data: data["dev_data"][1][0].__setitem__(0, data["flm_map"]["\n"]), "white space"),
    ],
)
def test_other_pickles_leave_nothing(tmp_path, change, message):
    data = read_pickle(DATASET, "a dataset")
    change(data)
    path = tmp_path / "x.pk"
    path.write_bytes(pickle.dumps(data, protocol=3))
    with pytest.raises(ConfigurationError, match=message):
        write_dataset(str(path), str(tmp_path / "conll"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pk"]


def test_files_are_not_replaced_unasked(tmp_path):
    (tmp_path / "dev.conll").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"dev.conll' exists"):
        write_dataset(DATASET, str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["dev.conll"]
    write_dataset(DATASET, str(tmp_path), force=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dev.conll", "test.conll", "train.conll"]
