"""Archives that are cut off, that are something else, or that were made to do harm."""

import collections
import gzip
import io
import json
import os
import pickle
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.models.archival import load_archive

from ldnet_allennlp.common.untrusted import archives as untrusted_archives
from ldnet_allennlp.common.untrusted.archives import load_checked_archive
from ldnet_allennlp.common.untrusted.config_types import restricted_types
from ldnet_allennlp.common.verification import outputs_of
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


def with_section(name, **changes):
    def change(files):
        config = json.loads(files["config.json"])
        config[name] = {**config.get(name, {}), **changes}
        return {**files, "config.json": json.dumps(config).encode()}

    return change


@pytest.mark.parametrize(
    "change, told",
    [
        (without("config.json"), "it has no config.json"),
        (without("weights.th"), r"it has no weights \(weights.th or best.th\)"),
        (without("vocabulary"), "it has no vocabulary"),
        (lambda files: {**files, "config.json": files["config.json"][:100]}, "config.json"),
        (cut, "weights.th' was expected to be a file of torch.save .* damaged, truncated"),
        (lambda files: {**files, "weights.th": b""}, "weights.th' was expected to be a file of torch.save"),
        (lambda files: {**files, "weights.th": b"text\n" * 9}, "weights.th' was expected"),
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
            ConfigurationError, match=r"bad.tar.gz' .*witness', a link.*Nothing was written to it"
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
            ConfigurationError,
            match=r"it names '(posix|nt).mkdir'.*nothing in it was executed|weights.th' .*another kind",
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
        with pytest.raises(
            ConfigurationError, match=r"was not opened: its config has the type 'os\.\w+'.*--trust"
        ):
            load_checked_archive(str(path))
        assert not witness.exists()

    @pytest.mark.parametrize(
        "change, message",
        [
            (
                with_model(type="from_archive", archive_file="http://127.0.0.1:9/x"),
                "has the type 'from_archive'",
            ),
            (
                with_section("model", encoder={"_pretrained": {"archive_file": "x"}}),
                "has the key '_pretrained'",
            ),
            (
                with_section("x", tokenizer_kwargs={"trust_remote_code": True}),
                "has the key 'trust_remote_code'",
            ),
            (
                with_section("trainer", callbacks=[{"type": "os.mkdir", "path": "/x"}]),
                "has the type 'os.mkdir'",
            ),
            (with_section("trainer", callbacks=["wandb", {"type": "wandb"}]), "has the type 'wandb'"),
            (with_section("data_loader", type="subprocess.run"), "has the type 'subprocess.run'"),
            (with_section("vocabulary", type="from_pretrained_transformer"), "has the type 'from_pretrained"),
            (
                with_section("dataset_reader", file="HTTPS://x/y"),
                "fetches file from the address 'HTTPS://x/y'",
            ),
            (with_section("dataset_reader", tokenizer={"type": "spacy"}), "has the type 'spacy'"),
        ],
    )
    def test_types_that_open_files_or_addresses(self, whole, temporary, tmp_path, change, message):
        path = pack(tmp_path / "bad.tar.gz", change(files_of(whole)))
        with pytest.raises(ConfigurationError, match=f"was not opened: its config {message}.*pass --trust"):
            load_checked_archive(str(path))

    def test_what_is_left_out_when_a_model_is_loaded(self, whole, temporary, tmp_path):
        """Word vectors that a training fetched; the callbacks of a language model that a tagger reads."""
        files = files_of(whole)
        config = json.loads(files["config.json"])
        embedders = config["model"]["text_field_embedder"]["token_embedders"]
        embedders["tokens"]["pretrained_file"] = "https://127.0.0.1:9/glove.txt.gz"
        pack(tmp_path / "a.tar.gz", {**files, "config.json": json.dumps(config).encode()})
        assert load_checked_archive(str(tmp_path / "a.tar.gz")).model
        config["trainer"]["callbacks"] = [{"type": "somebody.Callback"}]
        path = pack(tmp_path / "b.tar.gz", {**files, "config.json": json.dumps(config).encode()})
        assert load_checked_archive(str(path), is_trained=False).model
        with pytest.raises(ConfigurationError, match=r"has the type 'somebody\.Callback'"):
            load_checked_archive(str(path))

    def test_names_of_types_that_are_mere_strings(self, whole, temporary, tmp_path):
        """They are refused where AllenNLP builds them."""
        change = with_section("dataset_reader", token_indexers={"tokens": "pretrained_transformer"})
        path = pack(tmp_path / "bad.tar.gz", change(files_of(whole)))
        with pytest.raises(ConfigurationError, match="has the type 'pretrained_transformer'"):
            load_checked_archive(str(path))

    @pytest.mark.parametrize(
        "text",
        ["importstr '/etc/hostname'", "std.extVar('HOME')", 'std.length(std.repeat("a", 100000000000))'],
    )
    def test_a_config_is_json_and_no_program(self, whole, temporary, tmp_path, text):
        files = files_of(whole)
        config = files["config.json"].decode().rstrip()[:-1] + f", note: {text}}}"
        path = pack(tmp_path / "bad.tar.gz", {**files, "config.json": config.encode()})
        for trust in (False, True):
            with pytest.raises(ConfigurationError, match=r"its config\.json was expected to be JSON"):
                load_checked_archive(str(path), trust)

    def test_a_deeply_nested_config(self, whole, temporary, tmp_path):
        config = b'{"a":' + b"[" * 200_000
        path = pack(tmp_path / "bad.tar.gz", {**files_of(whole), "config.json": config})
        with pytest.raises(ConfigurationError, match=r"its config\.json was expected to be JSON"):
            load_checked_archive(str(path))

    def test_a_cache_is_not_written_where_a_config_says(self, whole, temporary, tmp_path):
        files = files_of(whole)
        config = json.loads(files["config.json"])
        config["model"]["text_field_embedder"]["token_embedders"]["ldnet"]["cache"] = str(tmp_path / "cache")
        path = pack(tmp_path / "a.tar.gz", {**files, "config.json": json.dumps(config).encode()})
        archive = load_checked_archive(str(path))
        outputs_of(archive.model, archive.dataset_reader, [["the", "list"]])
        assert [path.name for path in tmp_path.iterdir() if path != temporary] == ["a.tar.gz"]

    @pytest.mark.parametrize("kind", ["ours by its path", "somebody's own"])
    def test_classes_by_their_path(self, whole, temporary, tmp_path, kind):
        ours = "ldnet_allennlp.modules.rnn.stacked_rnn.StackedRnn"
        name = ours if kind == "ours by its path" else "tests.bad_days.archives_test.Call"
        encoder = {"type": name, "input_size": 12, "hidden_size": 7, "num_layers": 1}
        path = pack(tmp_path / "a.tar.gz", with_model(encoder=encoder)(files_of(whole)))
        with pytest.raises(ConfigurationError) as caught:  # ours is built, and its weights are not those
            load_checked_archive(str(path))
        assert ("has the type" in str(caught.value)) == (name != ours)

    def test_a_storage_that_is_shorter_than_it_says(self, whole, temporary, tmp_path):
        """torch would read the rest from the memory of the process."""
        files = files_of(whole)
        source, stream = zipfile.ZipFile(io.BytesIO(files["weights.th"])), io.BytesIO()
        with zipfile.ZipFile(stream, "w") as target:
            for name in source.namelist():
                target.writestr(name, source.read(name)[: 16 if name.endswith("/data/0") else None])
        path = pack(tmp_path / "bad.tar.gz", {**files, "weights.th": stream.getvalue()})
        with pytest.raises(
            ConfigurationError, match=r"bad\.tar\.gz' is damaged .* does not match expected size"
        ):
            load_checked_archive(str(path))

    def test_too_much(self, whole, temporary, tmp_path, monkeypatch):
        """A megabyte of zeros in a kilobyte, with the limit at a tenth of it."""
        path = pack(tmp_path / "bad.tar.gz", {"zeros": bytes(1 << 20), **files_of(whole)})
        monkeypatch.setattr(untrusted_archives, "MAX_UNPACKED", 100_000)
        monkeypatch.setattr(untrusted_archives, "MAX_RATIO", 2)
        with pytest.raises(
            ConfigurationError, match=r"was not opened: it unpacks to more than .* GiB.*--trust"
        ):
            load_checked_archive(str(path))
        assert load_checked_archive(str(path), trust=True).model
        monkeypatch.setattr(untrusted_archives, "_MAX_MEMBERS", 3)
        with pytest.raises(ConfigurationError, match="more than 3 files"):
            load_checked_archive(str(pack(tmp_path / "many.tar.gz", files_of(whole))))

    @pytest.mark.parametrize("kind", ["sparse", "header"])
    def test_sizes_that_are_only_claimed(self, whole, temporary, tmp_path, kind):
        """A sparse file has no bytes to count; the header of a long name is read at once."""
        member = tarfile.TarInfo("x")
        member.type = tarfile.GNUTYPE_SPARSE if kind == "sparse" else tarfile.GNUTYPE_LONGNAME
        member.size = 0 if kind == "sparse" else 1 << 40
        path = tmp_path / "bad.tar.gz"
        with gzip.open(path, "wb") as file:
            file.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        with pytest.raises(ConfigurationError, match=r"a link, a device|unpacks to more than|cannot be read"):
            load_checked_archive(str(path))

    @pytest.mark.parametrize("name", ["../\x1b]0;owned\x07", "a\0b", "../\u202etxt"])
    def test_names_that_a_terminal_would_interpret(self, whole, temporary, tmp_path, name):
        member = tarfile.TarInfo("x")
        member.pax_headers = {"path": name}
        path = tmp_path / "bad.tar.gz"
        with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as target:
            target.addfile(member)
        with pytest.raises(ConfigurationError) as caught:
            load_checked_archive(str(path))
        assert str(caught.value).isprintable() and "bad.tar.gz" in str(caught.value)


def test_other_threads_may_build_what_they_want(whole):
    """While one opens an archive of unknown origin."""
    with restricted_types():
        with pytest.raises(ConfigurationError, match=r"has the type 'collections\.Counter'"):
            Model.by_name("collections.Counter")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(Model.by_name, "collections.Counter").result() is collections.Counter
    assert Model.by_name("collections.Counter") is collections.Counter


@pytest.fixture
def hostile(whole, tmp_path):
    weights = torch_file({"a": Call(os.mkdir, str(tmp_path / "witness"))})
    return pack(tmp_path / "hostile.tar.gz", {**files_of(whole), "weights.th": weights})


@pytest.mark.parametrize("command", [("ldnet-prune",), ("ldnet-report", "--json", "out")])
def test_commands_tell_it_in_a_line(hostile, tmp_path, command):
    output = () if "--json" in command else (tmp_path / "out",)
    done = allennlp(*command, hostile, *output, folder=tmp_path)
    assert done.status == 1 and done.out == "" and "Traceback" not in done.err
    assert done.message.startswith(f"{command[0]}: The archive '{hostile}' is damaged")
    assert {path.name for path in tmp_path.iterdir()} == {"hostile.tar.gz"}


def test_an_archive_of_one_s_own(whole, tmp_path):
    """With a class that nobody but its owner has, in the training that it is from."""
    change = with_section("trainer", callbacks=[{"type": "somebody.Callback"}])
    pack(tmp_path / "own.tar.gz", change(files_of(whole)))
    for command in (
        ("ldnet-prune", "own.tar.gz", "pruned.tar.gz"),
        ("ldnet-report", "own.tar.gz", "--passes", "0"),
    ):
        refused = allennlp(*command, folder=tmp_path)
        assert refused.status == 1 and refused.message.startswith(
            f"{command[0]}: The archive 'own.tar.gz' was not"
        )
        assert allennlp(*command, "--trust", folder=tmp_path).status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"own.tar.gz", "pruned.tar.gz"}


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
