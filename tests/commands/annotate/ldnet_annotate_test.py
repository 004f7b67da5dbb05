import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.annotate.formats import read_ck
from ldnet_allennlp.commands.ldnet_annotate import annotate
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from tests.command_lines import allennlp
from tests.resources import DATA, needs_data


@pytest.fixture
def files(tmp_path):
    (tmp_path / "core.tsv").write_text("Drug\taspirin\nDisease\trenal failure\nDrug\tlead\nMetal\tlead\n")
    (tmp_path / "full.txt").write_text("low dose\nrenal failure\n")
    (tmp_path / "raw.txt").write_text("Low dose aspirin in renal\nfailure. Lead (Pb) too.\n\nNothing here.\n")
    (tmp_path / "tokens.txt").write_text("Low\ndose\naspirin\n.\n\nin\nrenal\nfailure\n")
    return tmp_path


def run(files, raw, output="out.conll", **options):
    report = annotate(
        str(files / raw),
        str(files / output),
        **{"dictionary": str(files / "core.tsv"), "phrases": str(files / "full.txt"), **options},
    )
    return report, (files / output).read_text(encoding="utf-8")


def test_raw_text(files):
    report, output = run(files, "raw.txt")
    assert output.replace("\t", " ") == (
        "Low ?\ndose ?\naspirin U-Drug\nin O\nrenal B-Disease\nfailure L-Disease\n. O\n\n"
        "Lead U-Drug|U-Metal\n( O\nPb O\n) O\ntoo O\n. O\n\nNothing O\nhere O\n. O\n\n"
    )
    assert "3 sentences, 16 words, 3 typed matches, 1 matches of phrases" in report


@pytest.mark.parametrize(
    "raw", ["Coca-Cola and 10mg of beta-blockers .\n", "(Coca-Cola) and 10mg, no beta-blocker.\n"]
)
def test_surfaces_match_raw_text_and_text_between_blanks(files, raw):
    names = ["Org\tCoca-Cola", "Dose\t10mg", "Drug\tbeta-blocker", "Drug\tbeta-blockers"]
    (files / "core.tsv").write_text("\n".join(names))
    (files / "raw.txt").write_text(raw)
    report, output = run(files, "raw.txt", phrases=None)
    words = [row.split("\t")[0] for row in output.split("\n") if not row.endswith("\tO")]
    assert "".join(words) in ("Coca-Cola10mgbeta-blockers", "Coca-Cola10mgbeta-blocker")
    assert "3 typed matches" in report and "Never matched: 1 of 4 entries" in report


def test_folders_and_lists_of_files(files):
    (files / "folder").mkdir()
    (files / "folder" / "b.txt").write_text("Lead.\n")
    (files / "folder" / "a.txt").write_text("Aspirin.\n")
    _, output = run(files, "folder")
    first, second = "Aspirin\tU-Drug\n.\tO\n\n", "Lead\tU-Drug|U-Metal\n.\tO\n\n"
    assert output == first + second
    both = [str(files / "folder" / "b.txt"), str(files / "folder" / "a*")]
    annotate(both, str(files / "both.conll"), dictionary=str(files / "core.tsv"))
    assert (files / "both.conll").read_text() == second + first


def test_unknown_outside(files):
    _, output = run(files, "tokens.txt", kind="tokens", phrases=None, outside="?")
    assert (
        output == "Low\t?\ndose\t?\naspirin\tU-Drug\n.\t?\n\nin\t?\nrenal\tB-Disease\nfailure\tL-Disease\n\n"
    )


def test_the_reader_reads_it(files):
    run(files, "raw.txt")
    reader = ConllColumnsReader(partial_label="?", target_label_encoding="BIOUL")
    words = [
        [token.text for token in instance["tokens"]] for instance in reader.read(str(files / "out.conll"))
    ]
    assert [len(sentence) for sentence in words] == [7, 6, 3]


def test_ck_rows_of_autoner(files):
    _, output = run(files, "tokens.txt", "out.ck", kind="tokens", output_format="ck")
    assert output == (
        "<s> O None S\nLow O None D\ndose O None D\naspirin I Drug S\n. I None S\n<eof> I None S\n\n"
        "<s> O None S\nin I None S\nrenal I Disease S\nfailure O Disease S\n<eof> I None S\n\n"
    )
    (files / "plain").mkdir()
    run(files, "tokens.txt", "plain/out.ck", kind="tokens", output_format="ck", phrases=None)
    spans = [spans for _, spans in read_ck(str(files / "plain" / "out.ck"))]
    assert spans == [[("Drug", 2, 3)], [("Disease", 1, 3)]]


@pytest.mark.parametrize("space", ["\u00a0", "\u2009"])
def test_only_ascii_white_space_separates_words(files, space):
    (files / "tokens.txt").write_text(f"5{space}mg\n{space}\naspirin\n", encoding="utf-8")
    _, output = run(files, "tokens.txt", "out.ck", kind="tokens", output_format="ck")
    rows = f"5{space}mg I None S\n{space} I None S\naspirin I Drug S"
    assert output == f"<s> O None S\n{rows}\n<eof> I None S\n\n"
    _, output = run(files, "out.ck", kind="ck", dictionary=None, phrases=None)
    assert output == f"5{space}mg\tO\n{space}\tO\naspirin\tU-Drug\n\n"
    (instance,) = ConllColumnsReader().read(str(files / "out.conll"))
    assert instance["metadata"]["words"] == [f"5{space}mg", space, "aspirin"]


def test_ck_gold_becomes_conll(files):
    (files / "gold.ck").write_text("<s> O None\nx I Disease\ny O Disease\nz I None\n<eof> I None\n\n")
    _, output = run(files, "gold.ck", kind="ck", dictionary=None, phrases=None)
    assert output == "x\tB-Disease\ny\tL-Disease\nz\tO\n\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<s> O None\nx I\n", "line 2: found 'x I', expected a word, I or O"),
        ("<s> O None\nx I None\n", "does not end with <eof>"),
    ],
)
def test_a_damaged_ck_file(files, content, message):
    (files / "gold.ck").write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        run(files, "gold.ck", kind="ck", dictionary=None, phrases=None)
    assert not (files / "out.conll").exists()


def test_mistakes(files):
    (files / "empty.txt").write_text("\n\n")
    with pytest.raises(ConfigurationError, match="found no sentence"):
        run(files, "empty.txt")
    with pytest.raises(ConfigurationError, match=r"line 1: found .* Set --input text"):
        run(files, "raw.txt", kind="tokens")
    with pytest.raises(ConfigurationError, match="Found no --dictionary, expected a file"):
        run(files, "raw.txt", dictionary=None)
    with pytest.raises(ConfigurationError, match="Found --dictionary, expected none"):
        run(files, "raw.txt", kind="ck")
    with pytest.raises(ConfigurationError, match="Found --phrases, expected none"):
        run(files, "raw.txt", kind="ck", dictionary=None)
    with pytest.raises(
        ConfigurationError, match=r"Found --outside '\?' and --format ck, expected --format conll"
    ):
        run(files, "raw.txt", outside="?", output_format="ck")
    for kind, raw in (("text", "raw.txt"), ("tokens", "tokens.txt")):
        with pytest.raises(ConfigurationError, match=r"language 'qq'.* not a spaCy language"):
            run(files, raw, kind=kind, language="qq")
    (files / "out.conll").write_text("mine")
    with pytest.raises(ConfigurationError):
        run(files, "raw.txt")
    assert (files / "out.conll").read_text() == "mine"
    assert run(files, "raw.txt", force=True)[1].startswith("Low")


def test_the_command(files):
    done = allennlp(
        "ldnet-annotate", files / "raw.txt", "--dictionary", files / "core.tsv", "-o", files / "out.conll"
    )
    assert "3 sentences" in done.out
    assert (files / "out.conll").read_text(encoding="utf-8").startswith("Low\tO\n")


@needs_data
def test_bc5cdr_is_matched_better_than_published():
    """Published for the dictionary match: precision 93.93, recall 58.35, F1 71.98 (AutoNER, table 2)."""
    from ldnet_allennlp.commands.annotate.dictionary import DictionaryMatcher, read_dictionary, read_phrases

    folder = DATA / "distant" / "bc5cdr"
    matcher = DictionaryMatcher(
        read_dictionary(str(folder / "dict_core.txt.gz")) + read_phrases(str(folder / "dict_full.txt.gz"))
    )
    right = predicted = gold = 0
    for words, spans in read_ck(str(folder / "truth_test.ck.gz")):
        matches = {
            ("|".join(sorted(entry.types)), start, end)
            for start, end, entry in matcher.matches(words)
            if entry.types
        }
        right += len(matches & set(spans))
        predicted += len(matches)
        gold += len(spans)
    assert right / predicted > 0.93
    assert right / gold > 0.60
