import gzip
import json
import logging
import os
import runpy
import sys
import tarfile
from itertools import chain, islice
from math import ceil

import pytest
import torch
from allennlp.commands import main
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, Vocabulary

from ldnet_allennlp.data.lm_stream import corpus as lm_corpus
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader
from tests.processes import run_in_two_processes
from tests.resources import FIXTURES, ROOT

TRAIN = str(FIXTURES / "lm" / "train.txt")
VALID = str(FIXTURES / "lm" / "valid.txt")


def make_loader(path=TRAIN, vocab=None, batch_size=3, sequence_length=5, **options):
    loader = LmStreamLoader(LmStreamReader(), path, batch_size, sequence_length, **options)
    loader.index_with(vocab or Vocabulary.from_instances(loader.iter_instances()))
    return loader


def plain(batch):
    """A batch as lists, which can be compared."""
    if isinstance(batch, dict):
        return {name: plain(value) for name, value in batch.items()}
    return batch.tolist() if isinstance(batch, torch.Tensor) else batch


def all_of(loader):
    return [plain(batch) for batch in loader]


@pytest.fixture
def files(tmp_path):
    """Plain and compressed."""
    paths = []
    for number in range(6):
        paths.append(str(tmp_path / f"{number}.txt"))
        text = f"w{number} a b\n" * (5 + number)
        with open(paths[-1], "wb") as file:
            file.write(gzip.compress(text.encode()) if number % 2 else text.encode())
    return paths


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(lm_corpus, "BLOCK_SIZE", 64)
    monkeypatch.setattr(lm_corpus, "TOKENS_OF_A_PART", 10)


class TestShards:
    @pytest.mark.parametrize("direction", ["forward", "backward", "both"])
    @pytest.mark.parametrize("one_stream_per_file", [False, True])
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_the_batches_are_those_of_the_ids_in_memory(
        self, files, tmp_path, direction, one_stream_per_file, shuffle
    ):
        options = {"direction": direction, "one_stream_per_file": one_stream_per_file, "shuffle": shuffle}
        in_memory = make_loader(files, **options)
        shards = make_loader(files, shards=str(tmp_path / "shards"), num_workers=2, **options)
        assert (
            shards._vocab.get_index_to_token_vocabulary() == in_memory._vocab.get_index_to_token_vocabulary()
        )
        for _ in range(3):
            assert len(shards) == len(in_memory)
            assert all_of(shards) == all_of(in_memory)

    @pytest.mark.parametrize("has_shards", [False, True])
    def test_parts_of_a_file_are_shuffled(self, tmp_path, small_pieces, has_shards):
        options = {"batch_size": 1, "shards": str(tmp_path / "shards") if has_shards else None}
        loader, unshuffled = make_loader(shuffle=True, **options), make_loader(**options)
        parts = [loader._ids[unit[0][:]].tolist() for unit in loader._units]
        assert len(parts) > 10
        orders = []
        for _ in range(3):
            ids = [number for batch in loader for number in batch["targets"].flatten().tolist() if number]
            orders.append([])
            while ids:  # a sentence is in one part only, so the start tells which part it is
                (which,) = (n for n, part in enumerate(parts) if ids[: len(part)] == part)
                orders[-1].append(which)
                del ids[: len(parts[which])]
        assert all(sorted(order) == list(range(len(parts))) for order in orders)
        assert orders[0] != orders[1] != orders[2]
        again = make_loader(shuffle=True, **options)
        assert all_of(again) != all_of(unshuffled)

    def test_a_file_that_is_a_stream_is_not_shuffled(self, tmp_path, small_pieces):
        options = {"batch_size": 1, "one_stream_per_file": True}
        shards = make_loader(shuffle=True, shards=str(tmp_path / "shards"), **options)
        assert len(shards._units) == 1 and len(shards._units[0]) > 10
        assert all_of(shards) == all_of(make_loader(**options))

    def test_both_directions_and_a_second_run_share_them(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        shards = str(tmp_path / "shards")
        vocab = make_loader(shards=shards)._vocab
        assert caplog.text.count("Preparing") == 1
        make_loader(shards=shards, direction="backward")
        make_loader(VALID, vocab, shards=shards)
        make_loader(VALID, vocab, shards=shards, direction="both")
        assert caplog.text.count("Preparing") == 2

    def test_a_damaged_shard_is_made_anew(self, tmp_path):
        loader = make_loader(shards=str(tmp_path / "shards"))
        expected = all_of(loader)
        (path,) = (tmp_path / "shards").glob("*.ids/tokens.bin")
        content = bytearray(path.read_bytes())
        content[100:104] = content[:4]
        path.write_bytes(content)
        assert all_of(loader) != expected  # what is open is not looked at again
        assert all_of(make_loader(shards=str(tmp_path / "shards"))) == expected

    def test_from_params(self, tmp_path):
        params = {"type": "lm_stream", "batch_size": 2, "sequence_length": 3, "direction": "both"}
        params.update(shards=str(tmp_path / "shards"), num_workers=2)
        loader = DataLoader.from_params(Params(params), reader=LmStreamReader(), data_path=TRAIN)
        loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
        assert next(iter(loader))["backward_targets"].shape == (2, 3)
        with pytest.raises(ConfigurationError, match=r"num_workers of .* is -1; expected 0 or more"):
            make_loader(num_workers=-1)


class TestBothDirections:
    @pytest.mark.parametrize("sequence_length", [1, 5, 200])
    @pytest.mark.parametrize("max_batches", [None, 3])
    def test_they_are_those_of_two_loaders(self, sequence_length, max_batches, files):
        options = {"sequence_length": sequence_length, "max_batches": max_batches, "shuffle": True}
        both = make_loader(files, direction="both", **options)
        forward = make_loader(files, both._vocab, **options)
        backward = make_loader(files, both._vocab, direction="backward", **options)
        assert len(both) == len(forward) == len(backward)
        for _ in range(2):
            batches = list(zip(all_of(both), all_of(forward), all_of(backward)))
            assert len(batches) == len(both)
            for one, ahead, back in batches:
                assert one == {
                    "source": ahead["source"],
                    "targets": ahead["targets"],
                    "backward_source": back["source"],
                    "backward_targets": back["targets"],
                    "first_window": ahead["first_window"],
                    "direction": "bidirectional",
                }


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_targets_stay_on_the_host_if_the_device_is_another(direction):
    expected, loader = make_loader(direction=direction), make_loader(direction=direction)
    loader.set_target_device(torch.device("meta"))
    for batch, other in zip(loader, expected):
        assert batch["targets"].device.type == "meta" and "host_targets" not in other
        targets = [other[name] for name in ("targets", "backward_targets") if name in other]
        assert len(batch["host_targets"]) == len(targets) == (2 if direction == "both" else 1)
        for on_host, window in zip(batch["host_targets"], targets):
            assert torch.equal(torch.from_numpy(on_host), window.long())


class TestEpochs:
    @pytest.mark.parametrize("options", [{}, {"max_batches": 4}, {"direction": "both"}])
    @pytest.mark.parametrize("batches_per_epoch", [None, 2, 7, 50])
    def test_a_recovered_run_comes_to_the_same_batches(self, files, tmp_path, options, batches_per_epoch):
        """The trainer of a recovered run goes through all batches once more, with a new loader."""
        options = {**options, "shuffle": True, "batches_per_epoch": batches_per_epoch}
        loader = make_loader(files, shards=str(tmp_path / "shards"), **options)
        epochs = [all_of(loader) for _ in range(6)]
        assert all(len(epoch) == len(loader) for epoch in epochs)
        assert len(set(map(str, epochs))) > 1
        again = make_loader(files, loader._vocab, **options)
        assert [all_of(again) for _ in range(6)] == epochs

    def test_an_unfinished_epoch_is_not_gone_on_with(self):
        """Without batches_per_epoch, each iteration is a pass of its own; with it, they are one stream."""
        whole = all_of(make_loader())
        loader = make_loader()
        list(islice(loader, 2))
        assert all_of(loader) == whole
        loader = make_loader(batches_per_epoch=3)
        list(islice(loader, 2))
        assert [batch["targets"] for batch in all_of(loader)] == [batch["targets"] for batch in whole[2:5]]

    def test_windows_before_an_epoch_are_not_read(self, tmp_path, monkeypatch):
        loader = make_loader(batch_size=2, sequence_length=4, batches_per_epoch=2)
        whole = all_of(make_loader(batch_size=2, sequence_length=4))
        for _ in range(18):
            list(loader)
        read = []
        (((ids,),)) = loader._units

        class Watched:
            def __len__(self):
                return len(ids)

            def __getitem__(self, wanted):
                read.append(wanted.start)
                return ids[wanted]

        loader._units = [[Watched()]]
        found = [batch["targets"] for batch in all_of(loader)]
        assert found == [batch["targets"] for batch in whole[36:38]]
        assert min(read) >= 36 * 4 - 1


def read_as_one_of_two(rank, world_size, files, folder):
    for shards in (None, os.path.join(folder, "shards")):
        for options in ({}, {"one_stream_per_file": True}):
            options = {**options, "shuffle": True, "direction": "both"}
            loader = make_loader(files, batch_size=2, shards=shards, num_workers=2, **options)
            with open(os.path.join(folder, f"{shards is None}-{len(options)}-{rank}"), "w") as file:
                json.dump(all_of(loader), file)


def test_two_processes_read_what_one_reads_with_twice_the_rows(files, tmp_path):
    run_in_two_processes(read_as_one_of_two, files, str(tmp_path))
    for options in ({}, {"one_stream_per_file": True}):
        options = {**options, "shuffle": True, "direction": "both"}
        expected = all_of(make_loader(files, batch_size=4, **options))
        for in_memory in (False, True):
            parts = []
            for rank in range(2):
                with open(tmp_path / f"{in_memory}-{len(options)}-{rank}") as file:
                    parts.append(json.load(file))
            assert len(parts[0]) == len(parts[1]) == len(expected)
            for one, other, batch in zip(*parts, expected):
                for entry in ("targets", "backward_targets"):
                    assert one[entry] + other[entry] == batch[entry]
                for entry in ("source", "backward_source"):
                    tokens = [part[entry]["tokens"]["tokens"] for part in (one, other, batch)]
                    assert tokens[0] + tokens[1] == tokens[2]
                assert one["first_window"] == other["first_window"] == batch["first_window"]


class TestVocabulary:
    """AllenNLP's own commands make the vocabulary; no command of ours is needed."""

    def params(self, tmp_path, **changes):
        overrides = {
            "train_data_path": TRAIN,
            "validation_data_path": VALID,
            "data_loader.shards": str(tmp_path / "shards"),
            "trainer.num_epochs": 1,
            **changes,
        }
        return Params.from_file(str(FIXTURES / "lm" / "stream_forward.jsonnet"), json.dumps(overrides))

    def test_build_vocab_and_train_from_files(self, tmp_path, monkeypatch):
        config = tmp_path / "config.json"
        self.params(tmp_path).to_file(str(config))
        built = tmp_path / "vocabulary.tar.gz"
        monkeypatch.setattr(sys, "argv", ["allennlp", "build-vocab", str(config), str(built)])
        main()
        with tarfile.open(built) as archive:
            archive.extractall(tmp_path / "built")
        model = train_model(
            self.params(tmp_path, vocabulary={"type": "from_files", "directory": str(built)}),
            str(tmp_path / "model"),
        )
        from_instances = train_model(self.params(tmp_path), str(tmp_path / "other")).vocab
        for vocab in (model.vocab, Vocabulary.from_files(str(tmp_path / "built"))):
            assert vocab.get_index_to_token_vocabulary() == from_instances.get_index_to_token_vocabulary()


BILLION = 1_000_000_000


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the memory from /proc")
@pytest.mark.parametrize(
    "num_tokens",
    [
        2_000_000,
        pytest.param(
            BILLION,
            marks=pytest.mark.skipif(
                not os.environ.get("LDNET_BILLION"), reason="takes minutes and 4 GB of disk (LDNET_BILLION=1)"
            ),
        ),
    ],
)
def test_the_benchmark_reads_every_token_once(num_tokens, tmp_path, monkeypatch):
    """The benchmark itself ends with an error unless the tokens that came are those that were written."""
    figures = tmp_path / "figures.json"
    options = {
        "--tokens": num_tokens,
        "--sample-tokens": 1000,
        "--words": 5000 if num_tokens < BILLION else 793_470,
    }
    options.update({"--directory": tmp_path, "--json": figures})
    program = str(ROOT / "benchmarks" / "lm_loader.py")
    monkeypatch.setattr(sys, "argv", [program, *map(str, chain(*options.items()))])
    runpy.run_path(program, run_name="__main__")
    with open(figures) as file:
        reading = json.load(file)["reading"]
    assert [result["direction"] for result in reading] == ["forward", "backward", "both"] * 2
    for result in reading:
        assert result["batches"] == ceil(ceil(result["tokens"] / 128) / 20)
        # The ids of a billion tokens are 4,000 MB.
        assert result["resident_mb_peak"] - result["resident_mb_at_start"] < 100
