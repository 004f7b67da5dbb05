"""Files that try something, and files that are what they should be."""

import collections
import contextlib
import io
import os
import pickle
import resource
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.untrusted.pickles import UnsafePickle, read_pickle, read_torch_file
from ldnet_allennlp.convert.original_files import read_checkpoint, read_maps
from tests.command_lines import in_a_process
from tests.convert.originals import CHECKPOINTS, DATASET
from tests.resources import REFERENCE, load_tensors

FILES = sorted(
    str(path.relative_to(REFERENCE)) for pattern in ("*.pt", "*.th") for path in REFERENCE.rglob(pattern)
)
MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


class Call:
    """Pickles as a call of a function: what a malicious file has in it."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def legacy(data: bytes, keys=(), storages: bytes = b"") -> bytes:
    """A container of the old kind around a pickle."""
    parts = [pickle.dumps(part, protocol=2) for part in (MAGIC, 1001, SYSTEM)]
    return b"".join([*parts, data, pickle.dumps(list(keys), protocol=2), storages])


class TestReading:
    @pytest.mark.parametrize("name", FILES)
    def test_every_reference_file_as_torch_reads_it(self, name):
        path = str(REFERENCE / name)
        found, truth = read_torch_file(path), load_tensors(path)
        found, truth = found.get("model", found), truth.get("model", truth)
        assert list(found) == list(truth)
        for key, tensor in truth.items():
            assert found[key].dtype == tensor.dtype and found[key].device.type == "cpu"
            assert torch.equal(found[key], tensor)

    @pytest.mark.parametrize("is_zip", [False, True])
    def test_all_of_torch_s_kinds(self, tmp_path, is_zip):
        matrix = torch.arange(12.0).view(3, 4)
        data = {
            "shared": [matrix, matrix[1:, ::2], matrix.t()],
            "types": [torch.tensor([1, 2]), torch.tensor([True]), torch.zeros(2, dtype=torch.float16)],
            "empty": torch.zeros(0, 3),
            "scalar": torch.tensor(2.5),
            "parameter": torch.nn.Parameter(torch.ones(2)),
            "ordered": collections.OrderedDict(a=1),
        }
        path = str(tmp_path / "x.th")
        torch.save(data, path, _use_new_zipfile_serialization=is_zip)
        found = read_torch_file(path)
        for key in ("shared", "types"):
            for ours, theirs in zip(found[key], data[key]):
                assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
        assert found["empty"].shape == (0, 3) and found["scalar"].item() == 2.5
        assert torch.equal(found["parameter"], torch.ones(2))
        assert found["ordered"] == {"a": 1}

    def test_pickles_with_numbers_of_numpy(self):
        maps = read_pickle(DATASET, "a dataset")
        with open(DATASET, "rb") as file:
            assert maps == pickle.load(file)
        assert all(type(number) is float for row in maps["emb_array"] for number in row)


class TestFilesThatTry:
    @pytest.mark.parametrize("is_zip", [False, True])
    @pytest.mark.parametrize("kind", ["system", "eval", "getattr", "open", "torch.load"])
    def test_nothing_is_executed(self, tmp_path, kind, is_zip):
        witness = tmp_path / "executed"
        call = {
            "system": Call(os.system, f"touch {witness}"),
            "eval": Call(eval, f"open({str(witness)!r}, 'w')"),
            "getattr": Call(getattr, Call(__import__, "os"), "system"),
            "open": Call(open, str(witness), "w"),
            "torch.load": Call(torch.load, str(witness)),
        }[kind]
        path = str(tmp_path / "x.th")
        torch.save({"model": {"w": torch.ones(1)}, "more": call}, path, _use_new_zipfile_serialization=is_zip)
        with pytest.raises(UnsafePickle, match=r"it names '.*nothing in it was executed"):
            read_checkpoint(path)
        maps = str(tmp_path / "maps.pk")
        with open(maps, "wb") as file:
            pickle.dump({"w_map": call}, file, protocol=3)
        with pytest.raises(UnsafePickle, match=r"it names '"):
            read_maps(maps, ["w_map"])
        assert not witness.exists()

    @pytest.mark.parametrize("part", range(5))
    def test_each_part_of_an_old_container(self, tmp_path, part):
        """The pickles before and after the data are programs, too."""
        witness = tmp_path / "executed"
        parts = [pickle.dumps(value, protocol=2) for value in (MAGIC, 1001, SYSTEM, {"model": {}}, [])]
        parts[part] = pickle.dumps(Call(os.system, f"touch {witness}"), protocol=2)
        path = tmp_path / "x.th"
        path.write_bytes(b"".join(parts))
        with pytest.raises(UnsafePickle):
            read_torch_file(str(path))
        assert not witness.exists()

    @pytest.mark.parametrize("state", ["dtype", "object"])
    def test_numbers_of_numpy_that_are_objects(self, tmp_path, state):
        program = {
            # numpy.dtype("O8"), and a scalar of it that holds a pickled call
            "dtype": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R.",
            "object": b"\x80\x02cnumpy.core.multiarray\nscalar\nX\x01\x00\x00\x00xX\x01\x00\x00\x00y\x86R.",
        }[state]
        path = tmp_path / "x.pk"
        path.write_bytes(program)
        with pytest.raises(ConfigurationError):
            read_pickle(str(path), "a dataset")

    @pytest.mark.parametrize(
        "size, stride, offset",
        [
            ((10**6,), (1,), 0),
            ((2, 2), (10**9, 1), 0),
            ((10**9, 10**9), (0, 0), 0),
            ((2,), (1,), 3),
            ((2,), (-1,), 3),
            ((2,), (1, 1), 0),
            ((3, 2), (1, 1), 0),  # overlapping: 6 numbers out of 4
            (("a",), (1,), 0),
        ],
    )
    def test_tensors_beyond_their_numbers(self, tmp_path, size, stride, offset):
        buffer = io.BytesIO()
        pickler = pickle._Pickler(buffer, protocol=2)
        pickler.persistent_id = lambda value: (
            ("storage", torch.FloatStorage, "1", "cpu", 4, None) if value == "here" else None
        )
        pickler.dump({"w": Call(torch._utils._rebuild_tensor_v2, "here", offset, size, stride, False, {})})
        path = tmp_path / "x.th"
        path.write_bytes(legacy(buffer.getvalue(), ["1"], struct.pack("<q4f", 4, 1, 2, 3, 4)))
        with pytest.raises(ConfigurationError, match="damaged, truncated or of another kind"):
            read_torch_file(str(path))

    def test_a_memo_that_asks_for_gigabytes(self, tmp_path):
        """Nine bytes, in a process that may take no more than a fraction of that."""
        program = b"\x80\x02}r\xff\xff\xff\x1f."  # the dictionary's number in the memo is 2 ** 29 - 1
        path = tmp_path / "x.pk"
        path.write_bytes(program)

        def read():
            size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (size + (512 << 20),) * 2)
            assert read_pickle(str(path), "a dataset") == {}

        assert in_a_process(read).status == 0

    @pytest.mark.parametrize("end", [b"h<K\x01s.", b"(h<K\x01u."])
    @pytest.mark.parametrize("kind", ["pickle", "old container", "zip"])
    def test_keys_that_take_forever_to_hash(self, tmp_path, end, kind):
        """Tuples of two, each of which holds the one before twice: 2 ** 60 steps."""
        nest = b"".join(b"h%ch%c\x86q%c0" % (n, n, n + 1) for n in range(60))  # number 60 is "<"
        program = b"\x80\x02}X\x01\x00\x00\x00aq\x000" + nest + end
        path = tmp_path / "x"
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", program)
                archive.writestr("archive/version", "3")
        else:
            path.write_bytes(program if kind == "pickle" else legacy(program))
        with pytest.raises(ConfigurationError, match="a key of the type tuple"):
            read_pickle(str(path), "a dataset") if kind == "pickle" else read_torch_file(str(path))

    @pytest.mark.parametrize("name", [b"collections\nCounter", b"builtins\nset"])
    def test_calls_that_take_forever_to_hash(self, tmp_path, name):
        nest = b"".join(b"h%ch%c\x86q%c0" % (n, n, n + 1) for n in range(60))
        program = b"\x80\x02X\x01\x00\x00\x00aq\x000" + nest + b"c" + name + b"\n(](h<ee\x85R."
        path = tmp_path / "x.th"
        path.write_bytes(legacy(program))
        with pytest.raises(UnsafePickle, match="it names"):
            read_torch_file(str(path))

    @pytest.mark.parametrize(
        "program",
        [
            b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.",  # a byte array of 64 GiB
            b"\x80\x04\x8f.",  # a set
            b"\x80\x02\x82\x01.",  # an extension
            b"\x80\x02(X\x01\x00\x00\x00aK\x01d.",  # protocol 0's dictionary
            b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00xK\x01sb.",  # changes one of our functions
            b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        ],
    )
    def test_instructions_that_data_do_not_need(self, tmp_path, program):
        path = tmp_path / "x.pk"
        path.write_bytes(program)
        with pytest.raises(ConfigurationError, match="damaged, truncated or of another kind"):
            read_pickle(str(path), "a dataset")

    def test_a_short_record(self, tmp_path):
        """torch would read the rest from the memory of the process."""
        path, short = str(tmp_path / "x.th"), str(tmp_path / "short.th")
        torch.save({"model": {"w": torch.zeros(100)}}, path)
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(short, "w") as target:
            for name in source.namelist():
                target.writestr(name, source.read(name)[: 16 if name.endswith("/data/0") else None])
        with pytest.raises(ConfigurationError, match="does not match expected size"):
            read_torch_file(short)

    def test_a_zip_bomb(self, tmp_path):
        path, bomb = str(tmp_path / "x.th"), str(tmp_path / "bomb.th")
        torch.save({"model": {"w": torch.zeros(10**6)}}, path)
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
            for entry in source.namelist():
                target.writestr(entry, source.read(entry))
        with pytest.raises(ConfigurationError, match="damaged, truncated or of another kind"):
            read_torch_file(bomb)

    def test_a_zip_bomb_behind_another_directory(self, tmp_path):
        """The end of the file names the bomb's directory, and is after that of a harmless file."""

        def packed(size, compression, comment=b""):
            path = tmp_path / "x.th"
            torch.save({"w": torch.zeros(size)}, path)
            content = io.BytesIO()
            with zipfile.ZipFile(path) as source, zipfile.ZipFile(content, "w", compression) as target:
                for name in source.namelist():
                    info = zipfile.ZipInfo(name)
                    info.compress_type = compression
                    info.comment, comment = comment, b""
                    target.writestr(info, source.read(name))
                start = target.start_dir
            data, end = content.getvalue(), len(content.getvalue()) - 22
            return data[:start], data[start:end], data[end:]

        bomb, directory, end = packed(10**6, zipfile.ZIP_DEFLATED)
        _, shorter, _ = packed(4, zipfile.ZIP_STORED)
        comment = b"x" * (len(directory) - len(shorter))
        harmless, other, _ = packed(4, zipfile.ZIP_STORED, comment)
        path = tmp_path / "bomb.th"
        path.write_bytes(bomb + directory + harmless + other + end)
        with zipfile.ZipFile(path) as archive:
            assert sum(entry.file_size for entry in archive.infolist()) < path.stat().st_size
        assert torch.load(path)["w"].numel() == 10**6
        with pytest.raises(ConfigurationError, match="does not end like a file of torch"):
            read_torch_file(str(path))

    @pytest.mark.parametrize("name", [b"cnumpy\ndtype\n", b"c_codecs\nencode\nX\x01\x00\x00\x00a"])
    def test_arguments_that_take_forever_to_print(self, tmp_path, name):
        nest = b"".join(b"h%c\x86q%c" % (n, n + 1) for n in range(60))
        path = tmp_path / "x.pk"
        path.write_bytes(
            b"\x80\x02" + name + b")q\x00" + nest + (b"\x85R." if b"dtype" in name else b"\x86R.")
        )
        with pytest.raises(UnsafePickle, match="tuple"):
            read_pickle(str(path), "a dataset")

    def test_a_list_within_itself(self, tmp_path):
        data: list = []
        data.append(data)
        path = tmp_path / "x.th"
        path.write_bytes(legacy(pickle.dumps({"model": data}, protocol=2)))
        assert read_torch_file(str(path))["model"][0] is not None
        with pytest.raises(ConfigurationError, match="weights under 'model'"):
            read_checkpoint(str(path))


class TestDamagedFiles:
    @pytest.mark.parametrize("name", ["ld0.th", "ner.th", "pner0_fzero.th", "ld0_gpu.th"])
    def test_truncated_anywhere(self, tmp_path, name):
        data = (CHECKPOINTS / name).read_bytes()
        path = tmp_path / "x.th"
        for length in [0, 1, 2, 10, 20, 40, *range(100, len(data), len(data) // 40), len(data) - 1]:
            path.write_bytes(data[:length])
            with pytest.raises(ConfigurationError, match="damaged, truncated or of another kind"):
                read_torch_file(str(path))

    @pytest.mark.parametrize("name", ["ner_dataset.pk", "fwd/test.pk"])
    def test_truncated_pickle(self, tmp_path, name):
        data = (CHECKPOINTS / "data" / name).read_bytes()
        path = tmp_path / "x.pk"
        for length in [0, 1, 2, 10, *range(100, len(data), len(data) // 20), len(data) - 1]:
            path.write_bytes(data[:length])
            with pytest.raises(ConfigurationError, match="damaged, truncated or of another kind"):
                read_pickle(str(path), "a dataset")

    def test_truncated_zip(self, tmp_path):
        path, short = tmp_path / "x.th", tmp_path / "short.th"
        torch.save({"model": {"w": torch.ones(100)}}, str(path))
        data = path.read_bytes()
        for length in range(0, len(data), len(data) // 20):
            short.write_bytes(data[:length])
            with pytest.raises(ConfigurationError):
                read_torch_file(str(short))

    def test_bytes_that_are_changed_give_an_error_or_other_weights(self, tmp_path):
        data = bytearray((CHECKPOINTS / "ner_vanilla.th").read_bytes())
        path = tmp_path / "x.th"
        for place in range(0, len(data), 37):
            changed = bytes(data[:place]) + bytes([data[place] ^ 0x55]) + bytes(data[place + 1 :])
            path.write_bytes(changed)
            with contextlib.suppress(ConfigurationError):
                read_checkpoint(str(path))

    @pytest.mark.parametrize("content", [b"", b"text\n", b"\x80\x02}q\x00.", b"PK\x03\x04", b"\x1f\x8b\x08"])
    def test_another_kind(self, tmp_path, content):
        path = tmp_path / "x.th"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="was expected to be"):
            read_torch_file(str(path))

    @pytest.mark.parametrize(
        "data, message",
        [
            ([1], "holds a list"),
            ({"weights": 1}, "keys 'weights'"),
            ({"model": {"w": 1}}, "'w' is a int"),
            ({"model": {"w": torch.tensor([1])}}, "finite floating point"),
            ({"model": {"w": torch.tensor([float("nan")])}}, "finite floating point"),
        ],
    )
    def test_no_checkpoint(self, tmp_path, data, message):
        path = str(tmp_path / "x.th")
        torch.save(data, path)
        with pytest.raises(ConfigurationError, match=message):
            read_checkpoint(path)

    def test_gpu_storages_are_read_on_the_cpu(self):
        gpu = read_checkpoint(str(CHECKPOINTS / "ld0_gpu.th")).weights
        cpu = read_checkpoint(str(CHECKPOINTS / "ld0.th")).weights
        assert list(gpu) == list(cpu) and all(torch.equal(gpu[name], cpu[name]) for name in cpu)

    def test_missing_file(self, tmp_path):
        with pytest.raises(ConfigurationError, match="does not exist"):
            read_maps(str(tmp_path / "none.pk"), ["w_map"])
        shutil.copy(DATASET, tmp_path / "x.pk")
        with pytest.raises(ConfigurationError, match="it has no w_map"):
            read_maps(str(tmp_path / "x.pk"), ["w_map"])
