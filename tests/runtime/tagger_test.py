import copy
import itertools
import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

from ldnet_runtime import Tagger, batching
from ldnet_runtime import prediction as predictions
from ldnet_runtime.errors import InputError, ModelFileError
from ldnet_runtime.prediction import Decoded, Options, Ranked
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.runtime import models

SENTENCES = ["Ada Lovelace lived in London .", "Charles Babbage", "in", "London Ada in Zork"]


@pytest.fixture(scope="module")
def tagger():
    return Tagger(models.word_model(), threads=1)


@pytest.fixture(scope="module")
def contextual():
    return Tagger(models.lstm_model(), threads=2, tokens_per_batch=50)


def random_sentences(number, seed=0, longest=25):
    generator = random.Random(seed)
    words = [*models.WORDS[2:], "Zork", "日本", "naïve", "\ud800", "@@PADDING@@", ""]
    return [[generator.choice(words) for _ in range(generator.randrange(longest))] for _ in range(number)]


def test_a_text(tagger):
    prediction = tagger(SENTENCES[0])
    assert [(span.text, span.label, span.start, span.end) for span in prediction] == [
        ("Ada Lovelace", "PER", 0, 2),
        ("London", "LOC", 4, 5),
    ]
    assert prediction.tags == ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
    assert all(0.5 < span.confidence < 1 for span in prediction)
    assert all(prediction.text[span.start_char : span.end_char] == span.text for span in prediction)


def test_sentences_of_a_text_are_tagged_one_by_one(tagger):
    text = "Ada\nLovelace lived\n\n  London\tin Ada \n"
    whole = tagger(text, n_best=5, marginals=True)
    parts = [tagger(line, n_best=5, marginals=True) for line in text.splitlines() if line.strip()]
    assert whole.words == [word for part in parts for word in part.words]
    assert whole.tags == [tag for part in parts for tag in part.tags]
    assert whole.sentences == [(0, 1), (1, 3), (3, 6)]
    assert [(s.text, s.label, s.confidence) for s in whole] == [
        (s.text, s.label, s.confidence) for part in parts for s in part
    ]
    assert [text[start:end] for start, end in zip(whole.starts, whole.ends)] == whole.words
    assert len(whole.marginals) == len(whole.words) and len(whole.n_best) == 5
    assert whole.n_best[0].tags == whole.tags
    product = numpy.prod([part.n_best[0].probability for part in parts])
    assert whole.n_best[0].probability == pytest.approx(product)
    assert whole.n_best == sorted(whole.n_best, key=lambda ranked: -ranked.score)


def test_words_and_objects(tagger):
    expected = tagger(SENTENCES[0].split())
    assert expected.text == SENTENCES[0] and not expected.has_text
    assert [span.text for span in expected] == ["Ada Lovelace", "London"]
    for value in ({"tokens": SENTENCES[0].split()}, {"tokens": [{"text": w} for w in SENTENCES[0].split()]}):
        assert tagger(value) == expected
    assert tagger({"sentence": SENTENCES[0]}) == tagger({"text": SENTENCES[0]}) == tagger(SENTENCES[0])
    text = "  Ada   in London"
    tokens = [{"text": w, "start": text.index(w), "end": text.index(w) + len(w)} for w in text.split()]
    assert tagger({"text": text, "tokens": tokens}) == tagger(text)  # its own offsets
    assert tagger([]).to_json() == {"words": [], "tags": [], "spans": []}
    assert tagger(" ").to_json() == {"text": " ", "words": [], "tags": [], "spans": []}


@pytest.mark.parametrize(
    "value, message",
    [
        (None, "the words are None"),
        ({"tokens": None}, "the words are None"),
        ({"tokens": [["a"]]}, r"word 1 is \['a'\]"),
        ({"tokens": ["a", None]}, "word 2 is None"),
        ({"tokens": ["a", True]}, "word 2 is True"),
        ({"tokens": "a b"}, "the words are 'a b'"),
        ({"sentence": ["a"]}, r"its 'sentence' is \['a'\]"),
        ({"words": ["a"]}, "it has the entries words"),
        ({}, "it has the entries none"),
        (7, "the words are 7"),
    ],
)
def test_bad_inputs(tagger, value, message):
    with pytest.raises(InputError, match=message):
        tagger(value)


def test_the_best_sequences_of_a_text_are_the_best_of_all_combinations():
    generator = numpy.random.default_rng(0)
    for k, sizes in ((1, [3, 2]), (4, [4, 1, 3]), (7, [7, 7, 5]), (50, [3, 3, 3])):
        sentences = [
            sorted(
                (
                    Ranked([f"{number}{rank}"], float(generator.integers(9)), generator.random())
                    for rank in range(size)
                ),
                key=lambda ranked: -ranked.score,
            )
            for number, size in enumerate(sizes)
        ]
        every = [
            ([tag for one in parts for tag in one.tags], sum(one.score for one in parts))
            for parts in itertools.product(*sentences)
        ]
        decoded = [Decoded(one[0].tags, [], n_best=one) for one in sentences]
        best = predictions.prediction(["a"] * len(sizes), decoded, n_best=k).n_best
        assert [one.score for one in best] == sorted((score for _, score in every), reverse=True)[:k]
        assert all((one.tags, one.score) in every for one in best)
        assert len({tuple(one.tags) for one in best}) == len(best)


def test_the_best_sequences_of_a_long_text_take_few_steps():
    """Pairs that cannot be among the best k are never compared: k ln k of k * k remain."""
    additions = []

    class Score(float):
        def __add__(self, other):
            additions.append(other)
            return Score(float(self) + float(other))

        __radd__ = __add__

    ranked = [Ranked([str(rank)], Score(-rank), 0.01) for rank in range(100)]
    decoded = [Decoded(["0"], [], n_best=ranked)] * 10
    assert len(predictions.prediction(["a"] * 10, decoded, n_best=100).n_best) == 100
    assert len(additions) < 10 * 1000


def test_a_window_of_nothing_is_refused(tagger):
    with pytest.raises(ValueError, match="window is 0; expected 1 or more"):
        list(tagger.tag_many(["Ada"], window=0))


def test_a_graph_that_fails_names_the_size_of_the_batch():
    """A table without the last words stands for a lack of memory."""
    broken = Tagger(models.word_model(models.word_table()[:5]))
    assert broken("Ada").tags == ["B-PER"]
    message = r"failed for a batch \(sentences: 1, words: 3, characters in the longest word: 7\): .*indices"
    with pytest.raises(InputError, match=message):
        broken("Ada in Babbage")


def test_a_lack_of_memory_in_encoding_names_the_size_of_the_batch(tagger, monkeypatch):
    def fail(sentences):
        raise MemoryError("no memory")

    monkeypatch.setattr(tagger._encoder, "encode", fail)
    with pytest.raises(InputError, match=r"failed for a batch .* longest word: 3\): no memory"):
        tagger("Ada")


def test_padding_is_no_word(tagger):
    """Each word has a tag, whatever it is, and its neighbors' tags stay theirs."""
    words = ["Ada", "@@PADDING@@", "London", "", "@@UNKNOWN@@"]
    assert tagger(words).tags == ["B-PER", "O", "B-LOC", "O", "O"]


def test_batches_change_nothing(contextual):
    sentences = random_sentences(60)
    expected = [contextual(words, n_best=3, marginals=True) for words in sentences]
    for window in (1, 7, 1000):
        found = list(contextual.tag_many(iter(sentences), n_best=3, marginals=True, window=window))
        for one, other in zip(found, expected, strict=True):
            assert (one.words, one.tags, one.text) == (other.words, other.tags, other.text)
            assert [span[:6] for span in one] == [span[:6] for span in other]
            numpy.testing.assert_allclose(
                [span.confidence for span in one], [span.confidence for span in other], atol=1e-5
            )
    assert len({tag for one in expected for tag in one.tags}) == len(models.LABELS)


def test_a_stream_is_read_by_windows(tagger):
    taken = []
    outputs = tagger.tag_many((taken.append(words) or words for words in random_sentences(30)), window=10)
    next(outputs)
    assert len(taken) == 10
    assert len(list(outputs)) == 29 and len(taken) == 30


def test_a_window_of_long_inputs_is_smaller(tagger, monkeypatch):
    monkeypatch.setattr(batching, "MAX_WORDS", 10)
    taken = []
    sizes = [4, 4, 4, 30, 0, 9]
    texts = (taken.append(size) or " ".join(["Ada"] * size) for size in sizes)
    found = [(len(prediction.words), len(taken)) for prediction in tagger.tag_many(texts)]
    assert found == [(4, 3), (4, 3), (4, 3), (30, 4), (0, 6), (9, 6)]


def test_spans_are_those_of_the_tags(contextual):
    for prediction in contextual.tag_many(random_sentences(40, seed=3)):
        found = [(span.label, span.start, span.end - 1) for span in prediction]
        assert found == spans_from_tags(prediction.tags, "BIO")


def test_confidences_are_sums_of_sequences(contextual):
    """A span's confidence is the probability of all sequences that have it."""
    words = ["Ada", "Zork", "London", "in"]
    prediction = contextual(words, n_best=10**3)
    assert sum(ranked.probability for ranked in prediction.n_best) == pytest.approx(1.0, abs=1e-5)
    for span in prediction:
        expected = sum(
            ranked.probability
            for ranked in prediction.n_best
            if (span.label, span.start, span.end - 1) in spans_from_tags(ranked.tags, "BIO")
        )
        assert span.confidence == pytest.approx(expected, abs=1e-5)
    marginals = contextual(words, marginals=True).marginals
    for position, of_word in enumerate(marginals):
        for label, probability in of_word.items():
            expected = sum(r.probability for r in prediction.n_best if r.tags[position] == label)
            assert probability == pytest.approx(expected, abs=1e-5)


def test_sixteen_threads_with_their_own_options(contextual):
    sentences = random_sentences(30, seed=5)
    options = [
        {"n_best": n, "marginals": m, "confidences": c}
        for n in (0, 2)
        for m in (False, True)
        for c in (False, True)
    ]
    expected = [[contextual(words, **of_call) for words in sentences] for of_call in options]

    def work(number):
        return [contextual(words, **options[number % len(options)]) for words in sentences]

    with ThreadPoolExecutor(16) as pool:
        for number, found in enumerate(pool.map(work, range(32))):
            assert found == expected[number % len(options)]


def test_copies(contextual, tmp_path):
    (tmp_path / "a.onnx").write_bytes(models.lstm_model())
    tagger = Tagger(tmp_path / "a.onnx", tokens_per_batch=50)
    expected = contextual(SENTENCES[3])
    for copied in (pickle.loads(pickle.dumps(tagger)), copy.deepcopy(tagger), copy.copy(tagger)):
        assert copied(SENTENCES[3]) == expected
    assert pickle.loads(pickle.dumps(contextual))(SENTENCES[3]) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child(contextual):
    expected = list(contextual.tag_many(SENTENCES * 10))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        found = list(contextual.tag_many(SENTENCES * 10))
        os.write(writer, b"same" if found == expected else b"different")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 9) == b"same" and os.waitpid(child, 0)[1] == 0


def test_an_end_step_that_the_tagger_reads(tagger):
    """Its score counts for the last word's tag; it has no place in the output."""
    description = {"end_token": "<eof>", "boundary_tags": (0, 0)}
    found = Tagger(models.word_model(**description))(SENTENCES[0], n_best=2)
    plain = tagger(SENTENCES[0], n_best=2)
    assert found.tags == plain.tags
    shift = models.word_table()[models.WORDS.index("<eof>"), 0]
    assert [r.score - shift for r in found.n_best] == pytest.approx([r.score for r in plain.n_best], abs=1e-5)
    alone = Tagger(models.word_model(end_token="<eof>"))(SENTENCES[0], n_best=2)
    assert alone.n_best == plain.n_best


def test_boundary_tags_are_no_spans():
    labels = ["O", "B-PER", "I-PER", "<s>", "<eof>"]
    options = {"labels": labels, "allowed": None, "end_token": "<eof>", "boundary_tags": (3, 4)}
    prediction = Tagger(models.word_model(**options))(["London", "Ada"])
    assert prediction.tags == ["<s>", "B-PER"]  # "London" scores highest for the fourth label
    assert [span.label for span in prediction] == ["PER"] and prediction.spans[0].confidence > 0


def test_labels_without_spans():
    tagger = Tagger(models.word_model(label_encoding=None, allowed=None))
    assert tagger(SENTENCES[0]).spans == [] and tagger.span_types == []
    assert tagger(SENTENCES[0], n_best=1).n_best[0].tags == tagger(SENTENCES[0]).tags


def test_bad_options(tagger):
    with pytest.raises(ValueError, match="n_best is -1; expected 0 or more"):
        tagger("a", n_best=-1)
    with pytest.raises(ValueError, match="threads is 0"):
        Tagger(models.word_model(), threads=0)
    assert Options().confidences and tagger.span_types == ["LOC", "PER"]


def test_a_file_that_changes_under_a_tagger(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(models.word_model())
    tagger = Tagger(path)
    tagger._sessions.clear()  # as in a forked child
    path.write_bytes(models.lstm_model())
    with pytest.raises(ModelFileError, match="has changed since it was checked"):
        tagger("a")


def test_large_weights_stay_in_the_file(tmp_path):
    """The same predictions from a path, where they are mapped into memory, and from bytes, where they are copied."""
    words = [*models.WORDS, *(f"w{number}" for number in range(60000))]
    table = numpy.random.default_rng(0).normal(size=(len(words), models.SIZE)).astype(numpy.float32)
    content = models.word_model(table=table, vocabularies={"tokens": words})
    folder = tmp_path / "a folder, ü"
    folder.mkdir()
    (folder / "the model.onnx").write_bytes(content)
    (tmp_path / "link.onnx").symlink_to(folder / "the model.onnx")
    sentences = [[words[number] for number in range(start, len(words), 1000)] for start in range(10)]
    expected = list(Tagger(content).tag_many(sentences))
    for path in (folder / "the model.onnx", tmp_path / "link.onnx"):
        tagger = Tagger(path)
        assert tagger._mapped is not None and len(tagger._mapped) < len(content) - table.nbytes + 1000
        assert list(tagger.tag_many(sentences)) == expected
        # A file that is replaced, as the exporter does it, takes nothing away from those who use it.
        (tmp_path / "new").write_bytes(models.word_model())
        os.replace(tmp_path / "new", path.resolve())
        assert list(tagger.tag_many(sentences)) == expected
        (folder / "the model.onnx").write_bytes(content)


@pytest.mark.parametrize("text", ["Ada lived", {"text": "Ada"}])
def test_one_input_is_not_many(text):
    with pytest.raises(InputError, match=r"the inputs are a (str|dict); expected a list"):
        list(Tagger(models.word_model()).tag_many(text))
