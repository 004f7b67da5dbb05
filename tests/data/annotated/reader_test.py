"""Exports of annotation tools: each fixture gives the same sentences, words and tags."""

import bz2
import gzip
import json
import logging
import lzma
import shutil

import pytest
import spacy
import zstandard
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin, Span

from ldnet_allennlp.data.annotated.reader import AnnotatedJsonlReader
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.resources import FIXTURES

FOLDER = FIXTURES / "annotated"
LETTER = [
    (["Ada", "Lovelace", "left", "Paris", "."], ["B-PER", "I-PER", "O", "B-LOC", "O"]),
    (["She", "wrote", "to", "Mr.", "Babbage", "."], ["O", "O", "O", "O", "B-PER", "O"]),
    (["Nothing", "here", "."], ["O", "O", "O"]),
]
TEXT = "Ada Lovelace left Paris."


def read(path, **options):
    return [
        (instance["metadata"]["words"], list(instance["tags"].labels) if "tags" in instance.fields else None)
        for instance in AnnotatedJsonlReader(**options).read(path)
    ]


@pytest.fixture
def read_items(tmp_path):
    def function(*items, **options):
        path = tmp_path / "file.jsonl"
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        return read(path, **options)

    return function


def spans(*values, text=TEXT):
    return {
        "text": text,
        "spans": [dict(zip(("start", "end", "label"), value, strict=True)) for value in values],
    }


class TestFormats:
    @pytest.mark.parametrize(
        "name",
        [
            *[
                "doccano.jsonl",
                "doccano_entities.jsonl",
                "label_studio.json",
                "label_studio_min.json",
                "spacy.json",
            ],
            *["predicted.jsonl", "brat/letter.ann", "brat/letter.txt"],
        ],
    )
    def test_spans(self, name):
        assert read(FOLDER / name) == LETTER
        bioul = read(FOLDER / name, target_label_encoding="BIOUL")
        for (words, tags), (expected, bio) in zip(bioul, LETTER, strict=True):
            assert words == expected and spans_from_tags(tags, "BIOUL") == spans_from_tags(bio, "BIO")

    def test_tokens_and_tags(self):
        names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
        expected = [LETTER[0], LETTER[2]]
        assert read(FOLDER / "hf.jsonl", tag_names=names) == expected
        assert read(FOLDER / "hf_names.jsonl") == expected
        assert read(FOLDER / "spans_prodigy.jsonl") == [LETTER[0]]

    def test_docbin(self, tmp_path):
        nlp = spacy.blank("en")
        docs = DocBin()
        doc = Doc(
            nlp.vocab, words=LETTER[0][0] + LETTER[1][0], sent_starts=[True, *4 * [False], True, *5 * [False]]
        )
        doc.ents = [Span(doc, 0, 2, "PER"), Span(doc, 3, 4, "LOC"), Span(doc, 9, 10, "PER")]
        docs.add(doc)
        docs.add(nlp("Nothing \n here."))
        docs.to_disk(tmp_path / "x.spacy")
        assert read(tmp_path / "x.spacy", labels="ignored") == [(words, None) for words, _ in LETTER]
        with pytest.raises(ConfigurationError, match=r"found no annotation|none in"):
            read(tmp_path / "x.spacy")
        docs = DocBin(docs=[doc])
        docs.to_disk(tmp_path / "x.spacy")
        assert read(tmp_path / "x.spacy") == LETTER[:2]
        doc.set_ents([Span(doc, 0, 2, "PER")], missing=[Span(doc, 3, 4)], default="outside")
        DocBin(docs=[doc]).to_disk(tmp_path / "x.spacy")
        assert read(tmp_path / "x.spacy", partial_label="-")[0][1] == ["B-PER", "I-PER", "O", "-", "O"]
        with pytest.raises(ConfigurationError, match='partial_label: "-"'):
            read(tmp_path / "x.spacy")
        (tmp_path / "y.spacy").write_bytes(b"nothing")
        with pytest.raises(ConfigurationError, match=r"found no \.spacy file"):
            read(tmp_path / "y.spacy")

    @pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
    def test_compressed(self, tmp_path, compress):
        for name in ("doccano.jsonl", "label_studio.json"):
            (tmp_path / name).write_bytes(compress((FOLDER / name).read_bytes()))
            assert read(tmp_path / name) == LETTER

    def test_metadata_and_offsets(self):
        reader = DatasetReader.from_params(
            Params({"type": "annotated_jsonl", "tokenizer": {"type": "rule_based", "mode": "rule_based"}})
        )
        instances = list(reader.read(FOLDER / "doccano.jsonl"))
        assert [(i["metadata"]["id"], i["metadata"]["line"]) for i in instances] == [(1, 1), (1, 1), (2, 2)]
        assert instances[0]["metadata"]["label_encoding"] == "BIO"
        text = json.loads((FOLDER / "doccano.jsonl").read_text().splitlines()[0])["text"]
        for token in instances[1]["tokens"]:
            assert text[token.idx : token.idx_end] == token.text

    def test_without_annotations(self, read_items):
        with pytest.raises(
            ConfigurationError, match=r"line 1: found no annotation, expected 'spans' or 'entities'"
        ):
            read_items({"text": TEXT})
        assert read_items({"text": TEXT}, labels="optional") == [(LETTER[0][0], None)]
        assert read(FOLDER / "doccano.jsonl", labels="ignored")[0] == (LETTER[0][0], None)
        reader = AnnotatedJsonlReader().for_prediction()
        (instance,) = reader.read(FOLDER / "spans_prodigy.jsonl")
        assert instance["metadata"]["columns"] == [[word] for word in LETTER[0][0]]


class TestItems:
    def test_rejected_ones_are_left_out(self, read_items, caplog):
        caplog.set_level(logging.INFO)
        rejected = [{**spans((0, 3, "X")), "answer": answer} for answer in ("reject", "ignore")]
        assert read_items(spans((0, 12, "PER")), *rejected) == [
            (LETTER[0][0], ["B-PER", "I-PER", "O", "O", "O"])
        ]
        assert "left out: 2 documents that the annotator rejected" in caplog.text

    @pytest.mark.parametrize("answer", ["accept", "Paris", None, ["Paris"]])
    def test_other_answers_are_kept(self, read_items, answer):
        assert read_items({**spans((18, 23, "LOC")), "answer": answer}) == [
            (LETTER[0][0], ["O", "O", "O", "B-LOC", "O"])
        ]

    def test_other_names(self, read_items):
        item = {"body": TEXT, "names": [[0, 12, "PER"]]}
        fields = {"text": "body", "spans": "names"}
        assert read_items(item, fields=fields)[0][1] == ["B-PER", "I-PER", "O", "O", "O"]
        item = {"tokens": ["a"], "ner_tags": ["B-X"], "pos_tags": ["NOUN"]}
        assert read_items(item, fields={"tags": "pos_tags"}) == [(["a"], ["NOUN"])]

    def test_a_text_with_a_tag_a_word(self, read_items):
        assert read_items({"text": "Ada left.", "labels": ["B-X", "O"]}) == [(["Ada", "left."], ["B-X", "O"])]

    def test_own_tokens_are_kept(self, read_items):
        tokens = [
            {"text": "Ada Lovelace", "start": 0},
            {"text": " ", "start": 12},
            {"text": "left", "start": 13},
        ]
        item = {**spans((0, 12, "PER"), text="Ada Lovelace left"), "tokens": tokens}
        assert read_items(item) == [(["Ada Lovelace", "left"], ["B-PER", "O"])]
        item = {"text": "Ada left", "tokens": ["Ada", "left"], "label": []}
        assert read_items(item, labels="optional") == [(["Ada", "left"], ["O", "O"])]

    @pytest.mark.parametrize(
        "item, message",
        [
            ("x", "found 'x', expected an object"),
            ({"id": 1}, "found an object with id, expected 'text' or 'sentence', or 'tokens' or 'words'"),
            ({"tokens": ["a", None], "tags": ["O", "O"]}, "found the token None"),
            ({"tokens": ["a", ["b"]], "tags": ["O", "O"]}, "found the token"),
            ({"tokens": ["a"], "tags": ["O", "O"]}, "found 2 tags for 1 tokens"),
            ({"tokens": ["a"], "ner_tags": [3]}, "found the number 3 in ner_tags.*tag_names"),
            ({"tokens": ["a"], "ner_tags": [None]}, "found the tag None"),
            (spans((0, 25, "X")), "found the span .* in a text of 24 characters"),
            (spans((3, 3, "X")), "0 <= start < end"),
            (
                {"text": TEXT, "spans": [[0, 3]]},
                r"found the span \[0, 3\], expected a start, an end and a label",
            ),
            (
                {"text": TEXT, "spans": [{"start": 0, "end": 3, "label": "X", "text": "Add"}]},
                'offsets to "utf16"',
            ),
            ({"tokens": ["\ud83d"], "tags": ["O"]}, "half of a surrogate pair"),
        ],
    )
    def test_bad_ones(self, read_items, item, message):
        with pytest.raises(ConfigurationError, match=f"file.jsonl, line 2: .*{message}"):
            read_items(spans(), item)

    @pytest.mark.parametrize("number", [2, -1])
    def test_numbers_beyond_the_names(self, read_items, number):
        with pytest.raises(ConfigurationError, match=f"found the tag {number}, expected a number below 2"):
            read_items({"tokens": ["a"], "tags": [number]}, tag_names=["O", "B-X"])

    @pytest.mark.parametrize("content", ["{", "[1,\n", "Ada left .\n", '{"text": "a", "spans": []}\n{\n'])
    def test_no_json(self, tmp_path, content):
        (tmp_path / "x.jsonl").write_text(content)
        with pytest.raises(ConfigurationError, match=r"x\.jsonl(, line \d)?: found"):
            read(tmp_path / "x.jsonl")

    def test_brat_needs_both_files(self, tmp_path):
        shutil.copy(FOLDER / "brat" / "letter.txt", tmp_path)
        with pytest.raises(ConfigurationError, match=r"come in pairs, expected '.*letter.ann'"):
            read(tmp_path / "letter.txt")
        for offsets in ("0 999", "3 3"):
            (tmp_path / "letter.ann").write_text(f"T1\tPER {offsets}\tAda\n")
            with pytest.raises(ConfigurationError, match=r"letter.ann, line 1: found 'T1"):
                read(tmp_path / "letter.ann")


def task(*results, cancelled=False, **data):
    parts = [{"was_cancelled": cancelled, "result": [{"value": value} for value in results]}]
    return {"id": 7, "data": data, "annotations": parts}


PARIS = {"start": 18, "end": 23, "text": "Paris", "labels": ["LOC"]}


class TestTagsBesideSpans:
    def test_as_many_tags_of_the_document_as_words(self, read_items):
        item = {**spans((0, 3, "PER"), text="Ada Lovelace"), "tags": ["news", "uk"]}
        assert read_items(item) == [(["Ada", "Lovelace"], ["B-PER", "O"])]

    def test_a_token_with_a_line_end(self, read_items):
        with pytest.raises(ConfigurationError, match=r"line 1: found the token 'foo.r', .*and no line end"):
            read_items({"tokens": ["foo", "foo\r"], "tags": ["B-X", "O"]})


class TestLabelStudioAndProdigy:
    def test_the_field_of_the_text(self, read_items):
        expected = [(LETTER[0][0], ["O", "O", "O", "B-LOC", "O"])]
        assert read_items(task(PARIS, review=TEXT)) == expected
        assert read_items(task(PARIS, source="http://x", content=TEXT)) == expected
        item = task(PARIS, source="http://example.com/as-long-as-this", review=TEXT)
        assert read_items(item, fields={"text": "review"}) == expected
        with pytest.raises(ConfigurationError, match=r"found an object with source, review, .* fields: "):
            read_items(item)

    def test_cancelled_tasks_are_left_out(self, read_items, caplog):
        caplog.set_level(logging.INFO)
        assert len(read_items(task(PARIS, text=TEXT), task(text=TEXT, cancelled=True))) == 1
        assert "left out: 1 documents that the annotator rejected" in caplog.text

    def test_open_tasks_are_left_out_where_labels_are_required(self, read_items, caplog):
        caplog.set_level(logging.INFO)
        items = [{"id": 2, "data": {"text": "Not yet."}, "annotations": []}, task(PARIS, text=TEXT)]
        assert [words for words, _ in read_items(*items)] == [LETTER[0][0]]
        assert "left out: 1 tasks without an annotation" in caplog.text
        assert len(read_items(*items, labels="ignored")) == 2

    def test_the_ground_truth_comes_first(self, read_items):
        item = task(text=TEXT)
        item["annotations"] += [
            {**part, "ground_truth": True} for part in task(PARIS, text=TEXT)["annotations"]
        ]
        assert read_items(item)[0][1] == ["O", "O", "O", "B-LOC", "O"]

    def test_quoted_text_may_have_other_white_space(self, read_items):
        quoted = {"start": 0, "end": 13, "text": "Ada Lovelace", "labels": ["PER"]}
        assert read_items(task(quoted, text="Ada  Lovelace left."))[0][1] == ["B-PER", "I-PER", "O", "O"]

    def test_regions_without_labels_are_no_spans(self, read_items):
        others = [{**PARIS, "choices": ["sure"]}, {**PARIS, "rating": 3}]
        for other in others:
            del other["labels"]
        assert read_items(task(*others, PARIS, text=TEXT))[0][1] == ["O", "O", "O", "B-LOC", "O"]
        with pytest.raises(ConfigurationError, match="expected a start, an end and a label"):
            read_items(task({"start": "/p[1]", "end": "/p[1]", "hypertextlabels": ["LOC"]}, text=TEXT))

    @pytest.mark.parametrize("mark", [{"answer": "accept"}, {"annotation_id": 2, "annotator": 1}])
    def test_documents_without_entities(self, read_items, mark):
        expected = [(LETTER[0][0], ["O"] * 5)]
        assert read_items({"text": TEXT, **mark}) == expected
        tokens = [{"text": "Ada", "start": 0}]
        assert read_items({"text": "Ada", "tokens": tokens, **mark}) == [(["Ada"], ["O"])]
        with pytest.raises(ConfigurationError, match="found no annotation"):
            read_items({"text": TEXT, "names": [PARIS], **mark})


class TestSpans:
    def test_unaligned(self, read_items, caplog):
        item = spans((1, 9, "PER"), (17, 24, "LOC"), (17, 18, "X"))
        assert read_items(item)[0][1] == ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]
        assert "1 spans moved to word boundaries, 1 spans that are not at word boundaries" in caplog.text
        assert read_items(item, on_unaligned_spans="drop")[0][1] == ["O", "O", "O", "B-LOC", "I-LOC"]
        with pytest.raises(
            ConfigurationError, match=r"line 1: found the span \(17, 18, 'X'\) without a word"
        ):
            read_items(spans((17, 18, "X")), on_unaligned_spans="error")
        with pytest.raises(
            ConfigurationError, match=r"\(1, 9, 'PER'\) at 'da Lovel'.*'Ada Lovelace' \(0 to 12\)"
        ):
            read_items(item, on_unaligned_spans="error")

    @pytest.mark.parametrize(
        "option, tags",
        [
            ("longest", "B-PER I-PER O B-LOC O"),
            ("shortest", "B-X B-Y O B-LOC O"),
            ("drop", "O O O B-LOC O"),
        ],
    )
    def test_overlapping(self, read_items, caplog, option, tags):
        item = spans((0, 12, "PER"), (0, 3, "X"), (4, 12, "Y"), (18, 23, "LOC"), (18, 23, "LOC"))
        assert read_items(item, on_overlapping_spans=option)[0][1] == tags.split()
        assert f"{ {'longest': 2, 'shortest': 1, 'drop': 3}[option] } overlapping spans" in caplog.text
        with pytest.raises(
            ConfigurationError, match=r"overlapping spans, X at 'Ada' and PER at 'Ada Lovelace'"
        ):
            read_items(item, on_overlapping_spans="error")

    def test_sentences_that_a_span_crosses_are_joined(self, read_items, caplog):
        item = spans((0, 16, "WORK"), text="Hello. Goodbye. Then she left.")
        assert [len(words) for words, _ in read_items(item)] == [4, 4]
        assert "1 sentences joined" in caplog.text

    def test_spans_in_any_order_belong_to_their_sentences(self, read_items):
        text = "Ann left. Hello. Goodbye. Then she left Bob. No one came. "
        values = [(40, 43, "PER"), (10, 25, "WORK"), (17, 24, "OTHER"), (0, 3, "PER"), (57, 58, "NONE")]
        sentences = read_items(spans(*values, text=text))
        assert [tags for _, tags in sentences] == [
            ["B-PER", "O", "O"],
            ["B-WORK", "I-WORK", "I-WORK", "I-WORK"],
            ["O", "O", "O", "B-PER", "O"],
            ["O", "O", "O", "O"],
        ]

    @pytest.mark.parametrize("unit, width", [("characters", 1), ("utf16", 2), ("bytes", 4)])
    def test_units(self, read_items, unit, width):
        item = {"text": "\U0001f600 Ada left", "label": [[width + 1, width + 4, "PER"]]}
        found = read_items(item, offsets=unit, on_unaligned_spans="error")
        assert found == [(["\U0001f600", "Ada", "left"], ["O", "B-PER", "O"])]

    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_what_was_annotated_is_read(self, tmp_path_factory, data):
        """Spans of whole words, in any text of sentences, come back as the words that they select."""
        words = data.draw(
            st.lists(st.sampled_from(["Ada", "left", "Dr.", "U.S.", ".", "\n", "\U0001f600"]), min_size=1)
        )
        text = " ".join(words)
        places = [len(" ".join(words[:n])) + (n > 0) for n in range(len(words))]
        chosen, position = [], 0
        while position < len(words):
            size = data.draw(st.integers(1, 3))
            part = words[position : position + size]
            if data.draw(st.booleans()) and part[0] != "\n" and part[-1] != "\n":
                chosen.append([places[position], places[position] + len(" ".join(part)), "X"])
            position += size
        path = tmp_path_factory.mktemp("spans") / "x.json"
        path.write_text(json.dumps([{"text": text, "label": chosen}]))
        if not text.strip():
            return
        reader = AnnotatedJsonlReader()
        found = []
        for instance in reader.read(path):
            tokens = instance["tokens"].tokens
            for label, first, last in spans_from_tags(instance["tags"].labels, "BIO"):
                found.append([tokens[first].idx, tokens[last].idx_end, label])
        assert found == chosen


@pytest.mark.parametrize(
    "options, message",
    [
        ({"offsets": "words"}, "offsets .* is 'words'; expected one of 'characters', 'utf16', 'bytes'"),
        (
            {"on_unaligned_spans": "grow"},
            "on_unaligned_spans .* is 'grow'; expected one of 'move', 'drop', 'error'",
        ),
        ({"on_overlapping_spans": "all"}, "on_overlapping_spans .* is 'all'; expected one of 'longest'"),
        ({"labels": "some"}, "labels .* is 'some'; expected one of 'required'"),
        ({"fields": {"span": "x"}}, "fields .* is 'span'; expected one of 'text', 'spans', 'tokens', 'tags'"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigurationError, match=message):
        AnnotatedJsonlReader(**options)
