"""`ldnet-tag` as users run it."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ldnet_runtime import Tagger
from ldnet_runtime.__main__ import main
from ldnet_runtime.errors import InputError
from ldnet_runtime.formats.compression import decompressed
from ldnet_runtime.formats.files import expand, written_beside
from tests.resources import ROOT
from tests.runtime import models

TEXT = "Ada Lovelace lived in London .\nCharles Babbage\n"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "ner.onnx"
    path.write_bytes(models.word_model())
    return str(path)


def run(model, *options, stdin=b"", **popen):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    command = [sys.executable, "-m", "ldnet_runtime", model, *map(str, options)]
    return subprocess.run(command, input=stdin, capture_output=True, env=environment, **popen)


def test_standard_input_and_output(model):
    done = run(model, "--output", "inline", stdin=TEXT.encode())
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == (
        "<PER> Ada Lovelace </PER> lived in <LOC> London </LOC> .\n<PER> Charles Babbage </PER>\n"
    )
    assert done.stderr == b""  # no progress where nobody looks


def test_python_gives_the_same(model, tmp_path, capfd):
    (tmp_path / "a.txt").write_text(TEXT)
    assert main([model, str(tmp_path / "a.txt"), "--n-best", "2", "--marginals", "--input", "document"]) == 0
    (output,) = map(json.loads, capfd.readouterr().out.splitlines())
    prediction = Tagger(model)(TEXT, n_best=2, marginals=True)
    assert output["tags"] == prediction.tags and output["text"] == TEXT
    assert [span["confidence"] for span in output["spans"]] == [span.confidence for span in prediction]
    assert len(output["n_best"]) == 2 and len(output["marginals"]) == len(prediction.words)


def test_files_may_follow_options(model, tmp_path, capfd):
    (tmp_path / "a.txt").write_text("Ada\n")
    assert main([model, "--threads", "1", str(tmp_path / "a.txt"), "--output", "inline"]) == 0
    assert capfd.readouterr().out == "<PER> Ada </PER>\n"


@pytest.mark.parametrize(
    "option, message",
    [
        (["--threads", "0"], "--threads: found '0', expected a whole number of 1 or more"),
        (["--n-best", "x"], "--n-best: found 'x', expected a whole number"),
        (["--serve", "70000"], "--serve: found '70000', expected a port from 1 to 65535"),
        (["--serve", "0"], "--serve: found '0', expected a port"),  # nobody would know which one it became
        (["--n-best", "3", "--output", "inline"], "--n-best and --marginals require --output json"),
        (["--marginals", "--output", "conll"], "--n-best and --marginals require --output json"),
    ],
)
def test_an_option_out_of_range(model, capsys, option, message):
    with pytest.raises(SystemExit) as status:
        main([model, *option])
    assert status.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.txt", "-o", "a.txt"],
        ["a.txt", "-o", "link"],
        ["sub", "-o", "sub/a.txt"],
        ["a.txt", "-o", ".", "--output", "standoff"],
    ],
)
def test_an_input_is_never_replaced(model, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "sub" / "a.txt"):
        path.write_text('{"text": "Ada"}\n')
    (tmp_path / "link").symlink_to("a.txt")
    assert main([model, *arguments]) == 1
    assert "a.txt would be replaced by its output" in capsys.readouterr().err
    assert {path.read_text() for path in tmp_path.rglob("a.txt")} == {'{"text": "Ada"}\n'}


@pytest.mark.parametrize("arguments", [["-o", "ner.onnx"], ["-o", ".", "--output", "standoff"]])
def test_the_model_is_never_replaced(model, tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.ann").symlink_to("ner.onnx")
    (tmp_path / "model.txt").write_text("Ada\n")
    os.makedirs("in")
    (tmp_path / "in" / "model.txt").write_text("Ada\n")
    content = (tmp_path / "ner.onnx").read_bytes()
    assert main([model, "in/model.txt", *arguments]) == 1
    assert f"{model} would be replaced by its output" in capsys.readouterr().err
    assert (tmp_path / "ner.onnx").read_bytes() == content


def test_two_runs_with_one_output_do_not_mix(tmp_path):
    path = tmp_path / "out"
    (tmp_path / ".out.txt.0123abcd.unfinished").write_text("another output")
    with pytest.raises(InputError, match="out: another run with the same output began"):  # noqa: SIM117
        with written_beside(str(path)) as first:
            first.write(b"first")
            with written_beside(str(path)) as second:
                second.write(b"second run")
            first.write(b" run")
    assert path.read_bytes() == b"second run"
    assert sorted(os.listdir(tmp_path)) == [".out.txt.0123abcd.unfinished", "out"]


@pytest.mark.parametrize("output", ["inline", "html", "standoff", "doccano", "label_studio"])
def test_a_tagger_without_spans_has_no_output_of_spans(tmp_path, capsys, output):
    path = tmp_path / "pos.onnx"
    path.write_bytes(models.word_model(label_encoding=None))
    assert main([str(path), str(ROOT / "README.md"), "--output", output, "-o", str(tmp_path / "out")]) == 1
    assert f"--output {output} shows spans, but this tagger has none" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
def test_compressed_output(model, tmp_path, suffix):
    out = tmp_path / f"out.jsonl.{suffix}"
    (tmp_path / "a.txt").write_text(TEXT)
    assert main([model, str(tmp_path / "a.txt"), "-o", str(out)]) == 0
    first = out.read_bytes()
    assert b"Ada" not in first
    with open(out, "rb") as file:
        outputs = [json.loads(line) for line in decompressed(file)]
    assert [output["words"][0] for output in outputs] == ["Ada", "Charles"]
    assert main([model, str(tmp_path / "a.txt"), "-o", str(out)]) == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize("name", ["out", "out.gz", "out.zst"])
def test_a_full_disk(model, tmp_path, name):
    """A limit on the size of files stands for the full disk."""
    program = (
        "import resource, sys; from ldnet_runtime.__main__ import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / name
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, model, "-o", out],
        input=b"Ada\n",
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 1
    assert done.stderr.decode() == f"ldnet-tag: error: {out}: File too large.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ner.onnx"]


@pytest.mark.parametrize(
    "redirection, message", [("<&-", "standard input is closed"), (">&-", "standard output is closed")]
)
def test_a_closed_stream(model, redirection, message):
    program = f"'{sys.executable}' -m ldnet_runtime '{model}' {redirection}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", program], input=b"Ada\n", capture_output=True, env=environment)
    assert (done.returncode, done.stderr.decode()) == (1, f"ldnet-tag: error: {message}.\n")
    program = f"'{sys.executable}' -m ldnet_runtime '{model}' 2>&-"
    done = subprocess.run(["bash", "-c", program], input=b"Ada\n", capture_output=True, env=environment)
    assert done.returncode == 0 and json.loads(done.stdout)["words"] == ["Ada"]


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("Ada\n")
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def refuse(path):  # permissions do not stop root
        if os.path.basename(path) == "secret":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="secret: Permission denied"):
        expand([str(tmp_path)])


def test_folders_globs_and_one_output_an_input(model, tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text(TEXT)
    (folder / "sub" / "b.jsonl").write_text('{"tokens": ["London"]}\n')
    (folder / ".hidden").write_text("x")
    out = tmp_path / "out.jsonl"
    assert main([model, str(folder), "-o", str(out)]) == 0
    outputs = [json.loads(line) for line in out.read_text().splitlines()]
    assert [os.path.basename(output["file"]) for output in outputs] == ["a.txt", "a.txt", "b.jsonl"]
    assert main([model, str(folder / "*.txt"), "-o", str(out), "--no-confidences"]) == 0
    assert "confidence" not in out.read_text() and "file" not in out.read_text()
    results = tmp_path / "results"
    assert main([model, str(folder), "-o", f"{results}{os.sep}", "--output", "html"]) == 0
    assert sorted(path.name for path in results.iterdir()) == ["a.html", "b.html"]
    assert main([model, str(folder), "-o", f"{results / 'tasks'}{os.sep}", "--output", "label_studio"]) == 0
    tasks = [json.loads((results / "tasks" / name).read_text()) for name in ("a.json", "b.json")]
    assert list(map(len, tasks)) == [2, 1]
    assert main([model, str(folder), "-o", str(results), "--output", "standoff"]) == 0
    text = (results / "a.txt").read_text()
    places = [line.split("\t") for line in (results / "a.ann").read_text().splitlines()]
    assert [text[int(p.split()[1]) : int(p.split()[2])] for _, p, _ in places] == [s for _, _, s in places]


def test_columns_in_and_out(model, tmp_path):
    (tmp_path / "a.conll").write_text("Ada NNP O\nlived VBD O\n\nin IN O\n")
    assert main([model, str(tmp_path / "a.conll"), "--output", "conll", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_text() == "Ada NNP O B-PER\nlived VBD O O\n\nin IN O O\n\n"
    (tmp_path / "a.conll").write_text("Ada\tNNP x\tO\nLovelace\tVBD\tO\n")
    options = ["--output", "conll", "--tag-encoding", "BIOUL", "-o", str(tmp_path / "out")]
    assert main([model, str(tmp_path / "a.conll"), *options]) == 0
    assert (tmp_path / "out").read_text() == "Ada\tNNP x\tO\tB-PER\nLovelace\tVBD\tO\tL-PER\n\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing.txt"], "missing.txt: no such file"),
        (["a.jsonl"], "a.jsonl, line 2: word 1 is None; expected a string"),
        (["a.jsonl", "--output", "standoff"], "name a folder with -o"),
        (["a.jsonl", "sub/a.jsonl", "-o", "out/"], "would both be written to out/a.jsonl"),
        (["a.jsonl", "-o", "sub/missing/x"], "sub/missing/x: No such file or directory"),
        (["a.jsonl", "-o", "./", "--output", "json"], "would be replaced by its output"),
        (["a.jsonl", "--tag-encoding", "XYZ", "--output", "conll"], "Found the label encoding 'XYZ'"),
    ],
)
def test_errors_are_one_sentence(model, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("a.jsonl", "sub/a.jsonl"):
        (tmp_path / name).write_text('{"tokens": ["a"]}\n{"tokens": [null]}\n')
    if "--tag-encoding" in arguments:
        (tmp_path / "a.jsonl").write_text('{"tokens": ["Ada"]}\n')
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main([model, *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("ldnet-tag: error: ") and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "out") == before


def test_an_error_in_an_array_names_the_item(model, tmp_path, capsys):
    (tmp_path / "a.json").write_text('[{"text": "a"}, ["b"], {"text": 5}]')
    assert main([model, str(tmp_path / "a.json"), "--output", "html"]) == 1
    assert "a.json, item 3: its 'text' is 5; expected a text" in capsys.readouterr().err


def test_columns_of_json_are_no_columns_of_words(model, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "Ada", "columns": 5, "separator": 0}\n')
    assert main([model, str(tmp_path / "a.jsonl"), "--output", "conll", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_text() == "Ada B-PER\n\n"


@pytest.mark.parametrize(
    "arguments, unused",
    [
        (["a.txt", "--n-best", "2", "--marginals"], "inputs, --n-best, --marginals"),
        (["-o", "out", "--output", "html", "--no-confidences"], "--output-file, --output, --no-confidences"),
        (["--info"], "--info"),
    ],
)
def test_the_server_uses_no_options_for_files(model, capsys, arguments, unused):
    with pytest.raises(SystemExit):
        main([model, "--serve", "8000", *arguments])
    assert f"--serve cannot be combined with {unused}\n" in capsys.readouterr().err


def test_the_server_uses_the_options_of_batches(model, monkeypatch):
    from ldnet_runtime.server import run

    taggers = []
    monkeypatch.setattr(run, "serve", lambda tagger, host, port: taggers.append((tagger, host, port)))
    options = ["--threads", "3", "--tokens-per-batch", "99", "--host", "::1"]
    assert main([model, "--serve", "8000", *options]) == 0
    ((tagger, host, port),) = taggers
    assert (tagger.threads, tagger.tokens_per_batch, host, port) == (3, 99, "::1", 8000)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "it is empty"),
        (b"PK\x03\x04", "not an ONNX file; expected a tagger that 'allennlp ldnet-export' has written"),
        (b"{}", "not an ONNX file"),
        (models.word_model()[:-30], "is cut off"),
        (None, "a.onnx: No such file or directory."),
    ],
)
def test_a_hostile_model(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    done = run(tmp_path / "a.onnx", stdin=b"a\n")
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.startswith(b"ldnet-tag: error: ") and done.stderr.count(b"\n") == 1
    assert message in done.stderr.decode() and "Errno" not in done.stderr.decode()


def test_a_failure_keeps_what_was_there(model, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"tokens": ["a"]}\n{"tokens": 5}\n')
    (tmp_path / "out").write_text("from an earlier run\n")
    assert main([model, str(tmp_path / "a.jsonl"), "-o", str(tmp_path / "out"), "--window", "1"]) == 1
    assert (tmp_path / "out").read_text() == "from an earlier run\n"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="no signals")
def test_an_interrupt_leaves_nothing_half_written(model, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ldnet_runtime", model, "-o", str(tmp_path / "out"), "--window", "1"]
    process = subprocess.Popen(
        [*command, "--input", "text"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        # Shells start background jobs, and with them these tests, with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdin.write(b"Ada\n" * 20000)
    process.stdin.flush()
    while not any(path.name.startswith(".out.") for path in tmp_path.iterdir()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error == b""
    assert [path.name for path in tmp_path.iterdir()] == ["ner.onnx"]


def test_a_reader_that_stops(model):
    program = f"'{sys.executable}' -m ldnet_runtime '{model}' --input text | head -1; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", program], input=b"Ada\n" * 50000, capture_output=True, env=environment
    )
    lines = done.stdout.splitlines()
    assert json.loads(lines[0])["words"] == ["Ada"] and lines[1] == b"1" and done.stderr == b""


def test_a_device_and_a_link(model, tmp_path):
    (tmp_path / "a.txt").write_text("Ada\n")
    assert main([model, str(tmp_path / "a.txt"), "-o", os.devnull]) == 0
    assert not os.path.isfile(os.devnull)
    (tmp_path / "real").write_text("")
    (tmp_path / "link").symlink_to("real")
    assert main([model, str(tmp_path / "a.txt"), "-o", str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink() and json.loads((tmp_path / "real").read_text())["words"] == [
        "Ada"
    ]


def test_info(model, capsys):
    assert main([model, "--info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"types: LOC, PER", "labels: 5 (BIO)"} < set(lines) and "archive: toy" in lines


def test_info_prints_no_control_characters(tmp_path, capsys):
    path = tmp_path / "a.onnx"
    names = {"\x1b[2J": "a", "b": "\x1b[2J"}
    vocabularies = {"tokens": models.WORDS, "\x1b[3J": ["", "?"]}
    path.write_bytes(models.word_model(provenance=names, vocabularies=vocabularies))
    assert main([str(path), "--info"]) == 0
    output = capsys.readouterr().out
    assert output.replace("\n", "").isprintable() and r"'\x1b[2J': a" in output


def test_help_needs_neither_numpy_nor_onnxruntime():
    program = "import sys; from ldnet_runtime.__main__ import build_parser; build_parser(); " + (
        "assert not {'numpy', 'onnxruntime', 'torch', 'allennlp'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_tagging_needs_nothing_else(model):
    program = (
        f"import sys; from ldnet_runtime import Tagger; print(Tagger({model!r})('Ada').tags); "
        "assert not {'torch', 'allennlp', 'onnx', 'spacy', 'ldnet_allennlp'} & set(sys.modules), sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert done.returncode == 0 and done.stdout == b"['B-PER']\n", done.stderr
