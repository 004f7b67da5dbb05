"""The "conll_columns" reader on fixtures, shared among processes, and on the measuring corpora."""

import gzip
import logging
import pickle
from collections import Counter
from typing import Any

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance, Token, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from allennlp.data.dataset_readers.dataset_reader import DistributedInfo, WorkerInfo
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.resources import DATA, FIXTURES, needs_data

CONLL2003 = str(FIXTURES / "conll" / "conll2003.txt")
WNUT17 = str(FIXTURES / "conll" / "wnut17.conll")
CONLLU = str(FIXTURES / "conll" / "words.conllu")


def words_of(instance: Instance):
    return [token.text for token in instance["tokens"].tokens]


def tags_of(instance: Instance):
    return list(instance["tags"].labels)


def read(path, **options):
    return [(words_of(i), tags_of(i)) for i in ConllColumnsReader(**options).read(path)]


class TestRead:
    def test_conll2003(self):
        options = {"target_label_encoding": "BIOUL"}
        assert read(CONLL2003, **options) == [
            (["Anna", "Keller", "left", "Oslo", "."], ["B-PER", "L-PER", "O", "U-LOC", "O"]),
            (["Oslo", "Bergen"], ["U-LOC", "U-LOC"]),
            (["Northwind"], ["U-ORG"]),
        ]
        chunks = read(CONLL2003, tag_column=2, target_label_encoding="BIO")
        assert [tags for _, tags in chunks] == [
            ["B-NP", "I-NP", "B-VP", "B-NP", "O"],
            ["B-NP", "B-NP"],
            ["B-NP"],
        ]

    def test_wnut17(self):
        assert read(WNUT17) == [
            (["#", "late", "Star", "Trek"], ["O", "O", "B-creative-work", "I-creative-work"]),
            (["watched\u200bwas", "Dubbz\ufeff"], ["O", "B-person"]),
            (["\ufeffX\u00a0Y"], ["B-product"]),
        ]

    def test_conllu(self):
        instances = list(ConllColumnsReader(layout="conllu", extra_columns=["lemma"]).read(CONLLU))
        assert [tags_of(i) for i in instances] == [["AUX", "PART", "VERB", "SYM", "NUM", "NOUN"], ["INTJ"]]
        assert instances[0]["metadata"].metadata == {
            "words": ["Do", "n't", "see", "#", "10 000", "trees"],
            "lemma": ["do", "not", "see", "#", "10 000", "tree"],
            "gold_tags": ["AUX", "PART", "VERB", "SYM", "NUM", "NOUN"],
            "label_encoding": None,
            "file": CONLLU,
            "line": 4,
        }

    def test_universal_ner(self, tmp_path):
        path = tmp_path / "x.iob2"
        path.write_text("# text = # 1\n1\t#\tO\tO\ta\n2\t1\tI-X\tO\ta\n\n")
        names = ["id", "form", "ner", "nested", "annotator"]
        found = read(path, layout="conllu", column_names=names, tag_column="ner", label_encoding="BIO")
        assert found == [(["#", "1"], ["O", "B-X"])]

    def test_several_files_each_in_its_own_encoding(self, tmp_path, caplog):
        parts = {"a": "x I-A\ny I-A\n", "b": "x S-A\ny B-A\nz E-A\n", "c": "x B-A\ny B-A\n"}
        for name, content in parts.items():
            (tmp_path / name).write_bytes(gzip.compress(content.encode()))
        found = read(f"{tmp_path}/b,{tmp_path}/[ac]", target_label_encoding="BIO")
        assert [tags for _, tags in found] == [["B-A", "B-A", "I-A"], ["B-A", "I-A"], ["B-A", "B-A"]]
        assert "encodings of the files differ" not in caplog.text
        found = read([tmp_path / "a", str(tmp_path / "b")])
        assert [tags for _, tags in found] == [["I-A", "I-A"], ["S-A", "B-A", "E-A"]]
        assert "encodings of the files differ (IOB1 in" in caplog.text
        caplog.clear()
        (tmp_path / "o").write_text("x O\n")
        assert read([tmp_path / "a", tmp_path / "o"])[1] == (["x"], ["O"])
        assert "encodings of the files differ" not in caplog.text

    def test_from_params_with_indexers(self):
        reader = DatasetReader.from_params(
            Params(
                {
                    "type": "conll_columns",
                    "token_indexers": {"tokens": {"type": "single_id"}, "characters": {"type": "characters"}},
                    "column_names": ["word", "pos", "chunk", "ner"],
                    "word_column": 0,
                    "tag_column": "ner",
                    "label_encoding": "IOB1",
                    "target_label_encoding": "BIOUL",
                    "label_namespace": "ner_tags",
                    "extra_columns": ["pos", 2],
                    "max_instances": 1,
                }
            )
        )
        (instance,) = reader.read(CONLL2003)
        assert isinstance(instance["tokens"]._token_indexers["characters"], TokenCharactersIndexer)
        assert set(instance["metadata"].metadata) == {
            "words",
            "gold_tags",
            "file",
            "line",
            "label_encoding",
            "pos",
            "chunk",
        }
        vocabulary = Vocabulary.from_instances([instance])
        assert vocabulary.get_vocab_size("ner_tags") == 4
        instance.index_fields(vocabulary)
        tensors = instance.as_tensor_dict()
        assert tensors["tags"].tolist() == [
            vocabulary.get_token_index(tag, "ner_tags") for tag in ["B-PER", "L-PER", "O", "U-LOC", "O"]
        ]

    def test_from_params_for_tags_that_are_no_spans(self):
        params = {"type": "conll_columns", "tag_column": 1, "label_encoding": None}
        reader = DatasetReader.from_params(Params(params))
        assert tags_of(next(iter(reader.read(CONLL2003)))) == ["NNP", "NNP", "VBD", "NNP", "."]
        assert reader.recoding.label_encoding is None

    def test_extra_columns_must_not_hide_the_rest(self):
        with pytest.raises(ConfigurationError, match="extra columns line, expected other names"):
            ConllColumnsReader(column_names=["word", "line", "tag"], extra_columns=["line"])


class TestTextToInstance:
    def test_words_or_tokens_with_or_without_tags(self):
        reader = ConllColumnsReader()
        tokens = [Token("a", idx=3), Token("b", idx=5)]
        instance = reader.text_to_instance(tokens)
        assert "tags" not in instance.fields
        assert instance["tokens"].tokens == tokens
        assert instance["metadata"].metadata == {"words": ["a", "b"]}
        instance = reader.text_to_instance(["a", "b"], ["I-X", "O"], {"id": 3})
        assert (words_of(instance), tags_of(instance)) == (["a", "b"], ["I-X", "O"])
        assert instance["metadata"].metadata == {
            "words": ["a", "b"],
            "gold_tags": ["I-X", "O"],
            "id": 3,
        }
        assert instance["tokens"]._token_indexers is None
        reader.apply_token_indexers(instance)
        assert isinstance(instance["tokens"].token_indexers["tokens"], SingleIdTokenIndexer)

    def test_wrong_sizes(self):
        reader = ConllColumnsReader()
        with pytest.raises(ConfigurationError, match="without words"):
            reader.text_to_instance([])
        with pytest.raises(ConfigurationError, match="1 tags for 2 words"):
            reader.text_to_instance(["a", "b"], ["O"])


@pytest.fixture
def corpus(tmp_path):
    """Three files of 5, 0 and 8 sentences with the words 0 to 12."""
    for name, numbers in {"a": range(5), "b": range(0), "c": range(5, 13)}.items():
        (tmp_path / name).write_text("-DOCSTART- O\n" + "".join(f"{n} O\n\n" for n in numbers))
    return str(tmp_path / "?")


class TestSharing:
    @pytest.mark.parametrize("max_instances", [None, 0, 1, 7, 12, 100])
    @pytest.mark.parametrize("ranks, workers", [(1, 1), (1, 3), (2, 1), (2, 3)])
    def test_shares_are_disjoint_and_complete(self, corpus, max_instances, ranks, workers):
        reader = ConllColumnsReader(max_instances=max_instances)
        shares = []
        for rank in range(ranks):
            for worker in range(workers):
                reader._set_distributed_info(DistributedInfo(ranks, rank) if ranks > 1 else None)
                reader._set_worker_info(WorkerInfo(workers, worker) if workers > 1 else None)
                shares.append([int(words_of(i)[0]) for i in reader.read(corpus)])
        limit = 13 if max_instances is None else min(max_instances, 13)
        assert sorted(number for share in shares for number in share) == list(range(limit))
        assert max(map(len, shares)) - min(map(len, shares)) <= (1 if ranks == 1 or workers == 1 else 2)

    def test_multi_process_loader(self, corpus):
        loader = MultiProcessDataLoader(
            pickle.loads(pickle.dumps(ConllColumnsReader(max_instances=11))),
            corpus,
            batch_size=2,
            num_workers=2,
            max_instances_in_memory=4,
        )
        vocabulary = Vocabulary.from_instances(loader.iter_instances())
        loader.index_with(vocabulary)
        words = [words["words"][0] for batch in loader for words in batch["metadata"]]
        assert sorted(map(int, words)) == list(range(11))

    def test_bad_input_in_a_worker_is_still_told(self, tmp_path):
        path = tmp_path / "bad.txt"
        path.write_text("a O\nb\n")
        with pytest.raises(Exception, match=r"bad.txt, line 2: found 1 column"):
            MultiProcessDataLoader(ConllColumnsReader(), str(path), batch_size=1, num_workers=1)

    def test_one_sentence_at_a_time(self, tmp_path):
        path = tmp_path / "bad_end.txt"
        path.write_text("a O\n\n" * 3 + "b\n")
        sentences = ConllColumnsReader(label_encoding="BIO").read(path)
        assert [words_of(next(sentences)) for _ in range(3)] == [["a"]] * 3
        with pytest.raises(ConfigurationError, match="line 7"):
            next(sentences)


class TestReports:
    def test_one_record_a_file_counts_what_was_left_out_and_repaired(self, tmp_path, caplog):
        path = tmp_path / "x.txt"
        path.write_text("-DOCSTART- O\na I-X\nb I-X\n\nc B-X\nd I-Y\n\ne B-X\n\nf B-X\n")
        caplog.set_level(logging.INFO)
        reader = ConllColumnsReader(label_encoding="BIO")
        for _ in range(2):  # two epochs of a lazy loader
            list(reader.read(path))
        (record,) = [r for r in caplog.records if r.name == "ldnet_allennlp.data.tagged_sentence_reader"]
        assert record.levelno == logging.WARNING
        assert record.getMessage() == (
            f"{path}: 4 sentences, 6 words; tags: BIO, read as BIO; left out: 1 document marks; 2 tags in "
            f"2 sentences are ill-formed BIO and were read as conlleval does and rewritten (the first: line 2: "
            f"found the tag 'I-X', expected 'B-X', as a span begins here)."
        )

    def test_one_of_several_processes_reports_for_all(self, tmp_path, caplog):
        path = tmp_path / "x.txt"
        path.write_text("a I-X\n\nb B-X\n\n" * 5)
        for worker in range(2):
            reader = ConllColumnsReader(label_encoding="BIO")
            reader._set_worker_info(WorkerInfo(2, worker))
            assert [tags_of(i) for i in reader.read(path)] == [["B-X"]] * 5
        (record,) = caplog.records
        assert "10 sentences" in record.getMessage() and "5 tags in 5 sentences" in record.getMessage()

    def test_detection_is_redone_when_the_file_changes(self, tmp_path):
        path = tmp_path / "x.txt"
        reader = ConllColumnsReader()
        # Repaired as the IOB1 of before, the second would become "I-X I-X".
        for content, tags in (("a I-X\n", ["I-X"]), ("a B-X\nb L-X\n", ["B-X", "L-X"])):
            path.write_text(content)
            assert [tags_of(i) for i in reader.read(path)] == [tags]

    def test_bad_tags(self, tmp_path):
        path = tmp_path / "x.txt"
        path.write_text("a B-X\n\nb NOUN\n")
        with pytest.raises(
            ConfigurationError, match=r"x.txt: Found both 'B-X' \(line 1\) and 'NOUN' \(line 3\)"
        ):
            read(path)
        with pytest.raises(ConfigurationError, match=r"x.txt, line 3: found the tag 'NOUN'"):
            read(path, label_encoding="BIO")
        assert read(path, label_encoding=None) == [(["a"], ["B-X"]), (["b"], ["NOUN"])]
        path.write_text("a O\nb I-X\n")
        with pytest.raises(ConfigurationError, match=r"x.txt, line 2: found the tag 'I-X', expected 'B-X'"):
            read(path, label_encoding="IOB2", on_invalid_tags="error")
        assert read(path, label_encoding="BIO", on_invalid_tags="keep") == [(["a", "b"], ["O", "I-X"])]

    def test_files_without_sentences(self, tmp_path):
        path = tmp_path / "empty.txt"
        path.write_text("\n\n")
        with pytest.raises(ConfigurationError, match=r"empty.txt: found no sentence"):
            read(path)

    def test_tags_in_some_files_only(self, tmp_path):
        (tmp_path / "a").write_text("x O\n")
        (tmp_path / "b").write_text("x\n")
        reader = ConllColumnsReader(labels="optional")
        assert "tags" not in next(iter(reader.read(tmp_path / "b"))).fields
        with pytest.raises(ConfigurationError, match=r"b, line 1: found tags in '.*a' and none in '.*b'"):
            list(reader.read(tmp_path / "*"))

    def test_a_pipe_cannot_be_read_twice(self):
        with pytest.raises(ConfigurationError, match=r"/dev/null: found a pipe or device.*Declare"):
            read("/dev/null")


UNER: dict[str, Any] = {
    "layout": "conllu",
    "column_names": ["id", "form", "ner", "nested", "annotator"],
    "tag_column": "ner",
}
UPOS: dict[str, Any] = {"layout": "conllu"}

# From each corpus's NOTE.md: sentences, words, encoding, spans by type; or how many tags, and some counts.
NER_FILES = {
    "ner/wikigold/wikigold.conll.txt": (
        1696,
        39007,
        "IOB1",
        {"LOC": 1014, "PER": 934, "ORG": 898, "MISC": 712},
    ),
    "ner/sec_filings/FIN3.txt": (303, 13246, "IOB1", {"PER": 216, "ORG": 56, "LOC": 39, "MISC": 7}),
    "ner/sec_filings/FIN5.txt": (1164, 41010, "IOB1", {"PER": 747, "ORG": 243, "LOC": 171, "MISC": 7}),
    "ner/uner_danish_ddt/da_ddt-ud-dev.iob2": (564, 10332, "BIO", {"PER": 166, "LOC": 107, "ORG": 106}),
    "ner/uner_danish_ddt/da_ddt-ud-test.iob2": (565, 10023, "BIO", {"PER": 185, "ORG": 172, "LOC": 90}),
    "ner/uner_danish_ddt/da_ddt-ud-train.iob2": (4383, 80378, "BIO", {"PER": 1237, "ORG": 909, "LOC": 882}),
    "ner/wnut17/emerging.dev.conll": (
        *(1009, 15733, "BIO"),
        {"person": 470, "product": 114, "creative-work": 105, "location": 74, "group": 39, "corporation": 34},
    ),
    "ner/wnut17/emerging.test.annotated": (
        *(1287, 23394, "BIO"),
        {
            "person": 429,
            "group": 165,
            "location": 150,
            "creative-work": 142,
            "product": 127,
            "corporation": 66,
        },
    ),
    "ner/wnut17/wnut17train.conll": (
        *(3394, 62730, "BIO"),
        {
            "person": 660,
            "location": 548,
            "group": 264,
            "corporation": 221,
            "product": 142,
            "creative-work": 140,
        },
    ),
    # Without NOTE.md: sentences as in the data's README.md, the rest counted with awk (tags with B-).
    "chunk/masc_911_chapter10.txt": (284, 7007, "BIO", {"PER": 187, "ORG": 175, "LOC": 149, "DATE": 76}),
}
POS_FILES = {
    "pos/ud_english_ewt/en_ewt-ud-dev.conllu.gz": (2001, 25147, 17, {"NOUN": 4210, "SYM": 81, "X": 59}),
    "pos/ud_english_ewt/en_ewt-ud-test.conllu.gz": (2077, 25094, 17, {"NOUN": 4123, "SYM": 109, "X": 42}),
    "pos/ud_english_ewt/en_ewt-ud-train.conllu.gz": (
        12544,
        204577,
        17,
        {"NOUN": 34751, "SYM": 722, "X": 400},
    ),
    "pos/ud_korean_gsd/ko_gsd-ud-dev.conllu.gz": (950, 11958, 15, {"NOUN": 4810, "X": 3, "PART": 1}),
    "pos/ud_korean_gsd/ko_gsd-ud-test.conllu.gz": (989, 11677, 14, {"NOUN": 4622, "AUX": 6, "PART": 5}),
    "pos/ud_korean_gsd/ko_gsd-ud-train.conllu.gz": (4400, 56687, 16, {"NOUN": 22915, "X": 10, "INTJ": 3}),
}


@needs_data
class TestMeasuringCorpora:
    @pytest.mark.parametrize("name", list(NER_FILES))
    def test_ner(self, name):
        sentences, words, encoding, types = NER_FILES[name]
        reader = ConllColumnsReader(target_label_encoding="BIOUL", **(UNER if name.endswith(".iob2") else {}))
        counts, spans, found = Counter(), Counter(), set()
        for instance in reader.read(DATA / name):
            counts.update(sentences=1, words=len(words_of(instance)))
            spans.update(span[0] for span in spans_from_tags(tags_of(instance), "BIOUL"))
            found.update(words_of(instance))
        assert counts == {"sentences": sentences, "words": words}
        assert spans == types
        assert {detected.encoding for detected in reader._detected.values()} == {encoding}
        invisible = {word for word in found if "\u200b" in word or "\ufeff" in word}
        expected = {"watched\u200bwas", "Dubbz\ufeff"} if name.endswith("dev.conll") else set()
        assert invisible == expected

    @pytest.mark.parametrize("name", list(POS_FILES))
    def test_pos(self, name):
        sentences, words, num_types, some_tags = POS_FILES[name]
        counts, tags = Counter(), Counter()
        for instance in ConllColumnsReader(**UPOS).read(DATA / name):
            counts.update(sentences=1, words=len(words_of(instance)))
            tags.update(tags_of(instance))
        assert counts == {"sentences": sentences, "words": words}
        assert len(tags) == num_types
        assert {tag: tags[tag] for tag in some_tags} == some_tags

    def test_chunks(self):
        path = DATA / "chunk" / "masc_911_chapter10.txt"
        spans = Counter()
        for _, tags in read(path, tag_column=2, target_label_encoding="BIOUL"):
            spans.update(span[0] for span in spans_from_tags(tags, "BIOUL"))
        assert spans == {"NP": 1796, "VP": 813}

    @pytest.mark.parametrize(
        "part, lines", [("train", [55941, 62672, 70872, 84305, 84777, 85286]), ("test", [6002])]
    )
    def test_the_slips_in_danish(self, part, lines, caplog):
        path = str(DATA / "ner" / "uner_danish_ddt" / f"da_ddt-ud-{part}.iob2")
        list(ConllColumnsReader(**UNER).read(path))
        assert f"{len(lines)} tags in {len(lines)} sentences are ill-formed BIO" in caplog.text
        assert f"the first: line {lines[0]}: found the tag 'I-" in caplog.text
        with pytest.raises(ConfigurationError, match=f"{part}.iob2, line {lines[0]}: found the tag 'I-"):
            list(ConllColumnsReader(on_invalid_tags="error", **UNER).read(path))
