"""Archives that are cut off, that are something else, or that were made to do harm."""

import io
import json
import os
import pickle
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive

from ldnet_allennlp.common.untrusted_archives import load_checked_archive
from tests.bad_days.configs import tagger_config, write_config
from tests.command_lines import allennlp
from tests.taggers import gated_archive


@pytest.fixture(scope="module")
def whole(tmp_path_factory, language_models) -> Path:
    """An archive as it should be."""
    path = tmp_path_factory.mktemp("whole") / "model.tar.gz"
    return Path(gated_archive(path, language_models, [1.0, 0.0] * 4))


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder that archives are unpacked in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def files_of(archive):
    with tarfile.open(str(archive)) as source:
        return {member.name: source.extractfile(member).read() for member in source if member.isfile()}


def pack(path, files, *members):
    """An archive of these files, and of members that are no files."""
    with tarfile.open(str(path), "w:gz") as target:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
        for member in members:
            target.addfile(member)
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


class Call:
    """Becomes a call when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def torch_file(data, **options):
    stream = io.BytesIO()
    torch.save(data, stream, **options)
    return stream.getvalue()


def zip_file(parts):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return stream.getvalue()


def test_what_is_whole_is_loaded_as_by_allennlp(whole, temporary, tmp_path, monkeypatch):
    """In whatever layout torch wrote the weights, with more files in it, or unpacked."""
    expected = load_archive(str(whole)).model.state_dict()
    files = files_of(whole)
    weights = torch.load(io.BytesIO(files["weights.th"]))
    older = {**files, "weights.th": torch_file(weights, _use_new_zipfile_serialization=False), "more/a": b"b"}
    pack(tmp_path / "older.tar.gz", older)
    for name, content in files.items():
        (tmp_path / "unpacked" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    for path in (whole, "older.tar.gz", tmp_path / "unpacked", "unpacked"):
        found = load_checked_archive(str(path)).model.state_dict()
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not list(temporary.iterdir())


def cut(files):
    return {**files, "weights.th": files["weights.th"][:5000]}


def without(name):
    return lambda files: {key: content for key, content in files.items() if not key.startswith(name)}


def with_model(**changes):
    def change(files):
        config = json.loads(files["config.json"])
        config["model"].update(changes)
        return {**files, "config.json": json.dumps(config).encode()}

    return change


@pytest.mark.parametrize(
    "change, told",
    [
        (without("config.json"), "it has no config.json"),
        (without("weights.th"), r"it has no weights \(weights.th or best.th\)"),
        (without("vocabulary"), "it has no vocabulary"),
        (lambda files: {**files, "config.json": files["config.json"][:100]}, "config.json"),
        (cut, "File is not a zip file"),
        (lambda files: {**files, "weights.th": b""}, "EOFError"),
        (lambda files: {**files, "weights.th": b"text\n" * 9}, "UnpicklingError"),
        (lambda files: {**files, "vocabulary/labels.txt": b"O\nU-X\n"}, "size mismatch for tag_projection_layer"),
        (lambda files: {**files, "vocabulary/labels.txt": b"O\n\xff\n"}, "UnicodeDecodeError"),
        (with_model(encodr={}), "'encodr'"),
        (with_model(type="ldnet_taggr"), "'ldnet_taggr' is not a registered name"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_the_archive_s_name(whole, temporary, tmp_path, change, told):
    path = pack(tmp_path / "bad.tar.gz", change(files_of(whole)))
    with pytest.raises(ConfigurationError, match=told) as caught:
        load_checked_archive(str(path))
    assert str(path) in str(caught.value) and str(temporary) not in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800
    assert not list(temporary.iterdir())


def test_damage_anywhere(whole, temporary, tmp_path):
    """Cut off or changed: an error of ours, and never a model with other weights (gzip has a checksum)."""
    content = whole.read_bytes()
    places = range(0, len(content), len(content) // 12)
    damaged = [content[:place] for place in places]
    damaged += [content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :] for place in places]
    expected = load_archive(str(whole)).model.state_dict()
    path = tmp_path / "bad.tar.gz"
    errors = 0
    for bad in damaged:
        path.write_bytes(bad)
        try:
            found = load_checked_archive(str(path)).model.state_dict()
        except ConfigurationError as error:
            assert str(path) in str(error)
            errors += 1
        else:  # a byte of gzip's header, which tells the time
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert errors >= len(damaged) - 2 and not list(temporary.iterdir())


class TestHostile:
    @pytest.mark.parametrize("name", ["../witness", "/{folder}/witness", "vocabulary/../../witness"])
    def test_files_elsewhere(self, whole, temporary, tmp_path, name):
        name = name.format(folder=str(tmp_path)[1:])
        path = pack(tmp_path / "bad.tar.gz", {**files_of(whole), name: b"x"})
        with pytest.raises(
            ConfigurationError, match=r"bad.tar.gz' .*witness', a link.*Nothing was written there"
        ):
            load_checked_archive(str(path))
        assert not list(tmp_path.rglob("witness"))

    @pytest.mark.parametrize(
        "member",
        [
            link("vocabulary", "/etc"),
            link("more", ".."),
            link("secret", "/etc/passwd", tarfile.LNKTYPE),
            link("pipe", "", tarfile.FIFOTYPE),
        ],
    )
    def test_links_and_devices(self, whole, temporary, tmp_path, member):
        path = pack(tmp_path / "bad.tar.gz", files_of(whole), member)
        with pytest.raises(ConfigurationError, match="a link, a device"):
            load_checked_archive(str(path))

    @pytest.mark.parametrize(
        "kind", ["zip", "legacy", "protocol 4", "two pickles", "capitals", "other pickle"]
    )
    def test_weights_with_code_in_them(self, whole, temporary, tmp_path, kind):
        witness = tmp_path / "witness"
        attack = {"weight": torch.ones(1), "more": Call(os.mkdir, str(witness))}
        harmless, harmful = pickle.dumps({}, protocol=2), pickle.dumps(attack["more"], protocol=2)
        weights = {
            "zip": lambda: torch_file(attack),
            "legacy": lambda: torch_file(attack, _use_new_zipfile_serialization=False),
            "protocol 4": lambda: torch_file(attack, pickle_protocol=4),
            "two pickles": lambda: zip_file([("a/data.pkl", harmful), ("b/data.pkl", harmless)]),
            "capitals": lambda: zip_file([("a/DATA.PKL", harmful), ("a/data.pkl", harmless)]),
            "other pickle": lambda: zip_file([("a/constants.pkl", harmful), ("a/data.pkl", harmless)]),
        }[kind]()
        path = pack(tmp_path / "bad.tar.gz", {**files_of(whole), "weights.th": weights})
        with pytest.raises(
            ConfigurationError, match=r"name '(posix|nt).mkdir'.*Nothing|the weights have the parts"
        ):
            load_checked_archive(str(path))
        assert not witness.exists()

    @pytest.mark.parametrize(
        "section", ["model", "model.encoder", "model.text_field_embedder", "dataset_reader", "string"]
    )
    def test_a_config_that_calls_something(self, whole, temporary, tmp_path, section):
        """AllenNLP would call anything that can be imported."""
        witness = tmp_path / "witness"
        files = files_of(whole)
        config = json.loads(files["config.json"])
        call = {"type": "os.mkdir", "path": str(witness)}
        if section == "string":  # which is a type, too
            config["model"]["encoder"] = "os.getpid"
        elif section.startswith("model."):
            config["model"][section.split(".")[1]] = call
        else:
            config[section] = call
        path = pack(tmp_path / "bad.tar.gz", {**files, "config.json": json.dumps(config).encode()})
        with pytest.raises(ConfigurationError, match=r"the type 'os\.\w+', which is not a class"):
            load_checked_archive(str(path))
        assert not witness.exists()

    def test_a_class_of_somebody_s_own_may_be_named(self, whole, temporary, tmp_path):
        name = "ldnet_allennlp.modules.rnn.stacked_rnn.StackedRnn"
        encoder = {"type": name, "input_size": 12, "hidden_size": 7, "num_layers": 1}
        path = pack(tmp_path / "a.tar.gz", with_model(encoder=encoder)(files_of(whole)))
        with pytest.raises(ConfigurationError) as caught:  # it is built, and its weights are not those
            load_checked_archive(str(path))
        assert "is not a class" not in str(caught.value)


@pytest.fixture
def hostile(whole, tmp_path):
    weights = torch_file({"a": Call(os.mkdir, str(tmp_path / "witness"))})
    return pack(tmp_path / "hostile.tar.gz", {**files_of(whole), "weights.th": weights})


@pytest.mark.parametrize(
    "command", [("ldnet-prune",), ("ldnet-convert", "--to-original"), ("ldnet-report", "--json", "out")]
)
def test_commands_tell_it_in_a_line(hostile, tmp_path, command):
    output = () if "--json" in command else (tmp_path / "out",)
    done = allennlp(*command, hostile, *output, folder=tmp_path)
    assert done.status == 1 and done.out == "" and "Traceback" not in done.err
    assert done.message.startswith(f"{command[0]}: The archive '{hostile}' is damaged")
    assert {path.name for path in tmp_path.iterdir()} == {"hostile.tar.gz"}


def test_a_hostile_language_model(hostile, tmp_path):
    """In the training of a tagger, whose config names it."""
    config = tagger_config()
    config["dataset_reader"]["token_indexers"] = {"ldnet": {"type": "ldnet"}}
    embedder = {"type": "ldnet", "forward": {"pretrained_file": str(hostile)}}
    config["model"]["text_field_embedder"] = {"token_embedders": {"ldnet": embedder}}
    done = allennlp(
        "train", write_config(tmp_path / "c.json", config), "-s", tmp_path / "out", folder=tmp_path
    )
    assert done.status == 1 and f"The archive '{hostile}' is damaged" in done.message
    assert not (tmp_path / "witness").exists() and not (tmp_path / "out" / "model.tar.gz").exists()


def test_predict_with_half_an_archive(whole, tmp_path):
    """The loader is AllenNLP's own: it fails, and what an earlier run has written stays."""
    (tmp_path / "half.tar.gz").write_bytes(whole.read_bytes()[:9000])
    (tmp_path / "in.txt").write_text("the list\n")
    (tmp_path / "out.jsonl").write_text("from an earlier run\n")
    done = allennlp("predict", "half.tar.gz", "in.txt", "--output-file", "out.jsonl", folder=tmp_path)
    assert done.status == 1 and done.message.startswith("EOFError")
    assert (tmp_path / "out.jsonl").read_text() == "from an earlier run\n"
