import gzip
import re
from collections import Counter
from itertools import chain, product
from unittest.mock import patch

import numpy
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DataLoader, DatasetReader, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from allennlp.data.dataset_readers import BabiReader
from allennlp.data.dataset_readers.dataset_reader import DistributedInfo, WorkerInfo
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer
from allennlp.nn.util import get_text_field_mask
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ldnet_allennlp.common.lines import expand_paths, line_blocks
from ldnet_allennlp.data.lm_stream import corpus as lm_corpus
from ldnet_allennlp.data.lm_stream import windows as lm_windows
from ldnet_allennlp.data.lm_stream.corpus import Corpus
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader
from ldnet_allennlp.data.lm_stream.shards import read_text
from ldnet_allennlp.data.lm_stream.windows import StreamWindows, TokenStream
from tests.resources import FIXTURES, load_reference

TRAIN = str(FIXTURES / "lm" / "train.txt")
VALID = str(FIXTURES / "lm" / "valid.txt")


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def lines_of(path, **options):
    return [line for block in line_blocks(path, **options) for line in block]


def make_loader(path, vocab=None, batch_size=3, sequence_length=5, reader=None, **options):
    loader = LmStreamLoader(reader or LmStreamReader(), path, batch_size, sequence_length, **options)
    if vocab is not False:
        loader.index_with(vocab or Vocabulary.from_instances(loader.iter_instances()))
    return loader


def stream_words(*paths):
    """The stream by definition: a boundary, then each line's words and a boundary."""
    words = ["<eos>"]
    for path in paths:
        with open(path, encoding="utf-8") as text:
            for line in text:
                words += [*line.split(), "<eos>"]
    return words


def ids(batch):
    return batch["source"]["tokens"]["tokens"]


def rows_of(batches, backward=False):
    """The targets of each row in the order of reading, without padding."""
    rows = []
    for batch in batches:
        for row, targets in enumerate(batch["targets"].tolist()):
            if len(rows) == row:
                rows.append([])
            kept = [target for target in targets if target]
            rows[row].extend(reversed(kept) if backward else kept)
    return rows


class TestText:
    @settings(max_examples=150, deadline=None)
    @example(text="a\r\r\nb", block_size=2, compressed=False)
    @given(
        text=st.text(st.sampled_from("ab é\t\n\r\u2028\x85\x0b"), max_size=40),
        block_size=st.integers(1, 9),
        compressed=st.booleans(),
    )
    def test_lines_are_those_of_universal_newlines(self, tmp_path_factory, text, block_size, compressed):
        content = text.encode("utf-8")
        path = tmp_path_factory.mktemp("text") / "text"
        path.write_bytes(gzip.compress(content) if compressed else content)
        expected = re.sub("\r+\n", "\n", text).replace("\r", "\n").split("\n")
        if expected[-1] == "":
            expected.pop()  # the last line end
        assert [line.decode("utf-8") for line in lines_of(str(path), block_size=block_size)] == expected

    def test_gzip_is_told_by_its_content_not_its_name(self, tmp_path):
        packed = write(tmp_path / "packed.txt", gzip.compress(b"a b\nc\n") + gzip.compress(b"d\n"))
        plain = write(tmp_path / "plain.gz", "a b\nc\nd\n")
        assert lines_of(packed) == lines_of(plain) == [b"a b", b"c", b"d"]

    def test_byte_order_mark_is_no_part_of_a_word(self, tmp_path):
        assert lines_of(write(tmp_path / "t", b"\xef\xbb\xbfa\nb")) == [b"a", b"b"]

    @pytest.mark.parametrize("block_size", [4, 1 << 18])
    @pytest.mark.parametrize(
        "content, message",
        [
            (b"good\nb\xffad\nlast\n", r"line 2: .*\\xffad"),
            (b"good\n\ngood\ncut \xc3", r"line 4: .*\\xc3"),
            (b"good\nbad\0\n", "line 2: found a NUL"),
            (b"\0", "line 1: found a NUL"),
            (b"good\n\na <eos>\nlast\n", "line 3: found the boundary token '<eos>' as a word"),
            (b"<eos>", "line 1: found the boundary token"),
        ],
    )
    def test_bad_text_is_reported_with_file_and_line(
        self, tmp_path, monkeypatch, content, message, block_size
    ):
        monkeypatch.setattr(lm_corpus, "BLOCK_SIZE", block_size)
        for name, stored in (("plain", content), ("packed", gzip.compress(content))):
            path = write(tmp_path / name, stored)
            with pytest.raises(ConfigurationError, match=f"{name}, {message}"):
                list(Corpus(path, "<eos>").blocks())

    @pytest.mark.parametrize("keep", [15, -20, -3])
    def test_damaged_gzip(self, tmp_path, keep):
        packed = gzip.compress(b"".join(b"line %d\n" % number for number in range(5000)))
        path = write(tmp_path / "cut.gz", packed[:keep])
        with pytest.raises(ConfigurationError, match=r"cut\.gz: could not be read after line \d+"):
            lines_of(path)

    def test_files_of_lists_patterns_and_directories(self, tmp_path):
        for name in ("b", "a", "c", ".hidden"):
            write(tmp_path / name, "x\n")
        (tmp_path / "folder").mkdir()
        a, b, c = (str(tmp_path / name) for name in "abc")
        assert expand_paths(a, folders=True) == [a]
        assert expand_paths(tmp_path, folders=True) == [a, b, c]
        assert expand_paths(str(tmp_path / "[ab]"), folders=True) == [a, b]
        assert expand_paths([c, str(tmp_path / "[ab]")], folders=True) == [c, a, b]

    def test_no_files(self, tmp_path):
        with pytest.raises(ConfigurationError, match="nothing-here"):
            expand_paths(str(tmp_path / "nothing-here"), folders=True)
        with pytest.raises(ConfigurationError, match="no file in this folder"):
            expand_paths(tmp_path, folders=True)
        with pytest.raises(ConfigurationError):
            expand_paths([], folders=True)


class TestReader:
    def test_instances_have_a_boundary_at_both_ends(self, tmp_path):
        path = write(tmp_path / "t", "the sea\n\n \t \nit\u00a0is  calm\r\n")
        texts = [
            [token.text for token in instance["source"].tokens] for instance in LmStreamReader().read(path)
        ]
        assert texts == [["<eos>", "the", "sea", "<eos>"], ["<eos>", "it\u00a0is", "calm", "<eos>"]]

    def test_text_to_instance_takes_tokens_or_text(self):
        reader = LmStreamReader(end_of_sentence="</s>")
        by_text, by_tokens = (
            reader.text_to_instance(" a b\u00a0c "),
            reader.text_to_instance(["a", "b\u00a0c"]),
        )
        for instance in (by_text, by_tokens):
            reader.apply_token_indexers(instance)
            assert [token.text for token in instance["source"].tokens] == ["</s>", "a", "b\u00a0c", "</s>"]
        vocab = Vocabulary.from_instances([by_text])
        for instance in (by_text, by_tokens):
            instance.index_fields(vocab)
        assert by_text.as_tensor_dict()["source"]["tokens"]["tokens"].tolist() == [2, 3, 4, 2]

    @pytest.mark.parametrize(
        "sentence, message",
        [
            (["a", 7], "Found 7 among the tokens"),
            (["a", None], "Found None among the tokens"),
            (["a", "b\ud83d"], r"half of a surrogate pair in the token 'b\\ud83d'"),
            ("a \ude00", "half of a surrogate pair"),
            ("a <eos> b", "boundary token '<eos>'"),
            (["<eos>"], "boundary token '<eos>'"),
        ],
    )
    def test_tokens_that_are_no_words(self, sentence, message):
        with pytest.raises(ConfigurationError, match=message):
            LmStreamReader().text_to_instance(sentence)

    @pytest.mark.parametrize("ranks, workers", [(1, 3), (3, 1), (2, 3)])
    def test_processes_share_the_sentences(self, ranks, workers):
        """Also in workers started by "spawn", where torch does not know the rank."""
        everything = [str(instance["source"].tokens) for instance in LmStreamReader().read(TRAIN)]
        parts = []
        for rank, worker in product(range(ranks), range(workers)):
            reader = LmStreamReader()
            reader._set_distributed_info(DistributedInfo(ranks, rank) if ranks > 1 else None)
            reader._set_worker_info(WorkerInfo(workers, worker) if workers > 1 else None)
            parts.append([str(instance["source"].tokens) for instance in reader.read(TRAIN)])
        assert sorted(chain(*parts)) == sorted(everything)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    def test_counts_are_those_of_the_stream(self, tmp_path):
        more = write(tmp_path / "more", "the\n\nthe end")
        counts = read_text(LmStreamReader().corpus([TRAIN, more])).token_counts()
        expected = Counter(stream_words(TRAIN)[1:]) + Counter({"the": 2, "<eos>": 2, "end": 1})
        assert counts == dict(expected)

    def test_max_instances_is_a_number_of_lines(self, tmp_path):
        paths = [write(tmp_path / name, f"{name}\n{name} {name}\n") for name in "abc"]
        reader = LmStreamReader(max_instances=3)
        assert len(list(reader.read(paths))) == 3
        assert read_text(reader.corpus(paths)).token_counts() == {"a": 3, "b": 1, "<eos>": 3}

    def test_a_file_without_tokens_is_an_error(self, tmp_path):
        for content in ("", "\n \n\t\n"):
            empty = write(tmp_path / "empty", content)
            with pytest.raises(ConfigurationError, match=r"no token in the text '.*empty'"):
                read_text(LmStreamReader().corpus([TRAIN, empty]))
            with pytest.raises(ConfigurationError, match=r"no token in the text '.*empty'"):
                list(LmStreamReader().read(empty))

    def test_boundary_is_one_token(self):
        for boundary in ("", "a b", " "):
            with pytest.raises(ConfigurationError, match="end_of_sentence"):
                LmStreamReader(end_of_sentence=boundary)


@st.composite
def streams(draw):
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=4).filter(lambda ns: sum(ns) > 0))
    starts = numpy.cumsum([2, *lengths])
    return [numpy.arange(start, start + length, dtype=numpy.int32) for start, length in zip(starts, lengths)]


class TestWindows:
    """Each token of a stream is unique here, so every step can be checked by its ids alone."""

    @pytest.fixture(autouse=True, scope="class")
    def few_tokens_at_once(self):
        """So that these short streams are not read at once."""
        with patch.object(lm_windows, "TOKENS_AT_ONCE", 10):
            yield

    @settings(max_examples=300, deadline=None)
    @given(streams(), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(1, 3))
    def test_every_token_is_a_target_once(self, pieces, batch_size, steps, backward, world_size):
        stream = [1, *numpy.concatenate(pieces).tolist()]
        targets_seen = Counter()
        shapes = []
        for rank in range(world_size):
            windows = StreamWindows(
                TokenStream(1, pieces), batch_size, steps, backward=backward, rank=rank, world_size=world_size
            )
            previous = {}
            shapes.append([])
            for inputs, targets in windows.windows():
                assert inputs.dtype == targets.dtype == numpy.int64
                shapes[-1].append(inputs.shape)
                real = targets > 0
                assert ((inputs > 0) == real).all()
                assert (real == numpy.sort(real, axis=1)[:, ::-1]).all()  # padding at the right
                difference = -1 if backward else 1
                assert (targets - inputs)[real].tolist() == [difference] * int(real.sum())
                assert (numpy.diff(inputs, axis=1)[real[:, 1:]] == 1).all()  # in the natural order
                for row in numpy.flatnonzero(real.any(axis=1)):
                    last = real[row].sum() - 1
                    first_read, last_read = (last, 0) if backward else (0, last)
                    # Goes on where the window before stopped.
                    assert previous.get(row, inputs[row, first_read]) == inputs[row, first_read]
                    previous[row] = targets[row, last_read]
                targets_seen.update(targets[real].tolist())
            assert len(shapes[-1]) == len(windows)
        assert targets_seen == Counter(stream[:-1] if backward else stream[1:])
        assert all(shape == shapes[0] for shape in shapes)  # the processes stay in step
        assert all(rows <= batch_size and 1 <= width <= steps for rows, width in shapes[0])
        assert all(width == steps for _, width in shapes[0][:-1])

    @settings(max_examples=50, deadline=None)
    @given(streams(), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 99))
    def test_starting_later_skips_windows(self, pieces, batch_size, steps, backward, first):
        windows = StreamWindows(TokenStream(1, pieces), batch_size, steps, backward=backward)
        expected = [(inputs.tolist(), targets.tolist()) for inputs, targets in windows.windows()]
        found = [(inputs.tolist(), targets.tolist()) for inputs, targets in windows.windows(first)]
        assert found == expected[first:]

    def test_processes_read_what_one_reads_with_all_rows(self):
        piece = numpy.arange(2, 90, dtype=numpy.int32)
        together = list(StreamWindows(TokenStream(1, [piece]), 6, 4).windows())
        parts = [
            list(StreamWindows(TokenStream(1, [piece]), 2, 4, rank=rank, world_size=3).windows())
            for rank in range(3)
        ]
        for number, window in enumerate(together):
            for which in (0, 1):
                joined = numpy.concatenate([part[number][which] for part in parts])
                assert (joined == window[which]).all()

    def test_the_originals_training_windows(self):
        """`LargeDataset` drops what does not fill a window of all rows; without that rest we agree."""
        arrays = load_reference("d_lm/datasets.npz")
        tokens = (arrays["tokens"] + 1).astype(numpy.int32)  # 0 is the padding here
        kept = 1 + 94 // (3 * 5) * (3 * 5)
        windows = list(StreamWindows(TokenStream(tokens[0], [tokens[1:kept]]), 3, 5).windows())
        assert (numpy.stack([window[0].T for window in windows]) == arrays["x"] + 1).all()
        assert (numpy.stack([window[1].T for window in windows]) == arrays["y"] + 1).all()
        # With the rest, nothing is dropped.
        windows = list(StreamWindows(TokenStream(tokens[0], [tokens[1:]]), 3, 5).windows())
        assert sum(int((window[1] > 0).sum()) for window in windows) == 94

    def test_the_originals_evaluation_windows(self):
        arrays = load_reference("d_lm/datasets.npz")
        tokens = (arrays["tokens"] + 1).astype(numpy.int32)
        windows = list(StreamWindows(TokenStream(tokens[0], [tokens[1:]]), 1, 7).windows())
        assert (numpy.concatenate([window[0] for window in windows[:-1]]) == arrays["eval_x"] + 1).all()
        assert (numpy.concatenate([window[1] for window in windows[:-1]]) == arrays["eval_y"] + 1).all()
        assert (windows[-1][0][0] == arrays["eval_x_last"] + 1).all()
        assert (windows[-1][1][0] == arrays["eval_y_last"] + 1).all()

    def test_the_last_window_is_padded_only_where_a_row_ends(self):
        windows = list(StreamWindows(TokenStream(1, [numpy.arange(2, 10)]), 3, 2).windows())
        assert [window[0].tolist() for window in windows] == [[[1, 2], [4, 5], [7, 8]], [[3], [6], [0]]]
        backward = list(StreamWindows(TokenStream(1, [numpy.arange(2, 10)]), 3, 2, backward=True).windows())
        assert [window[0].tolist() for window in backward] == [[[3, 4], [6, 7], [8, 9]], [[2], [5], [0]]]
        assert [window[1].tolist() for window in backward] == [[[2, 3], [5, 6], [7, 8]], [[1], [4], [0]]]


class TestLoader:
    def test_vocabulary_is_sorted_by_frequency(self):
        vocab = Vocabulary.from_instances(make_loader(TRAIN, vocab=False).iter_instances())
        counts = Counter(stream_words(TRAIN)[1:])
        words = [vocab.get_token_from_index(number) for number in range(2, vocab.get_vocab_size())]
        assert [counts[word] for word in words] == sorted(counts.values(), reverse=True)
        assert set(words) == set(counts)

    def test_vocabulary_options_work(self):
        loader = make_loader(TRAIN, vocab=False)
        params = Params({"min_count": {"tokens": 3}, "max_vocab_size": {"tokens": 20}})
        vocab = Vocabulary.from_params(params, instances=loader.iter_instances())
        assert vocab.get_vocab_size() == 22
        loader.index_with(vocab)
        counts = Counter(stream_words(TRAIN)[1:])
        unknown = sum(sorted(counts.values())[: len(counts) - 20])
        assert sum((batch["targets"] == 1).sum() for batch in loader) == unknown

    @pytest.mark.parametrize("direction", ["forward", "backward"])
    def test_the_batches_hold_the_text(self, direction):
        loader = make_loader(TRAIN, direction=direction, batch_size=4)
        words = stream_words(TRAIN)
        numbers = [loader._vocab.get_token_index(word) for word in words]
        batches = list(loader)
        assert len(batches) == len(loader)
        backward = direction == "backward"
        rows = rows_of(batches, backward)
        assert max(map(len, rows)) - min(map(len, rows)) <= 1
        if backward:
            assert list(chain(*(row[::-1] for row in rows))) == numbers[:-1]
        else:
            assert list(chain(*rows)) == numbers[1:]
        assert [batch["first_window"] for batch in batches] == [True] + [False] * (len(batches) - 1)
        assert {batch["direction"] for batch in batches} == {direction}

    def test_mask_is_that_of_the_targets(self):
        for batch in make_loader(TRAIN):
            assert torch.equal(get_text_field_mask(batch["source"]), batch["targets"] > 0)

    def test_as_sentences_or_as_a_stream_the_ids_are_the_same(self):
        stream = make_loader(VALID, batch_size=1, sequence_length=10**6)
        sentences = list(LmStreamReader().read(VALID))
        for instance in sentences:
            instance.index_fields(stream._vocab)
        (batch,) = stream
        padded = Batch(sentences).as_tensor_dict()["source"]["tokens"]["tokens"]
        joined = [
            number for row in padded.tolist() for number in row[1:] if number
        ]  # without first boundaries
        assert batch["targets"].tolist()[0] == joined

    def test_words_that_look_like_padding_are_unknown(self, tmp_path):
        loader = make_loader(write(tmp_path / "t", "@@PADDING@@ a @@UNKNOWN@@\n"), batch_size=1)
        (batch,) = loader
        eos, a = (loader._vocab.get_token_index(word) for word in ("<eos>", "a"))
        assert batch["targets"].tolist() == [[1, a, 1, eos]]

    def test_an_unknown_token_with_another_id(self, tmp_path):
        """Vocabularies from files may have it anywhere."""
        folder = tmp_path / "vocabulary"
        folder.mkdir()
        write(folder / "tokens.txt", "<eos>\nthe\n@@UNKNOWN@@\n")
        write(folder / "non_padded_namespaces.txt", "")
        loader = make_loader(write(tmp_path / "t", "the new\n"), Vocabulary.from_files(folder), batch_size=1)
        (batch,) = loader
        assert batch["targets"].tolist() == [[2, 3, 1]]

    def test_more_rows_than_tokens(self, tmp_path):
        loader = make_loader(write(tmp_path / "t", "a b\n"), batch_size=50)
        (batch,) = loader
        assert batch["targets"].shape == (3, 1) and len(loader) == 1

    def test_gzip_gives_the_same_batches(self, tmp_path):
        with open(TRAIN, "rb") as text:
            packed = write(tmp_path / "packed", gzip.compress(text.read()))
        plain = make_loader(TRAIN)
        for one, other in zip(plain, make_loader(packed, plain._vocab)):
            assert torch.equal(ids(one), ids(other)) and torch.equal(one["targets"], other["targets"])

    def test_max_batches_is_the_start_of_the_text(self):
        loader, few = make_loader(TRAIN), make_loader(TRAIN, max_batches=4)
        for _ in range(2):
            assert rows_of(list(loader)[:4]) == rows_of(few)
        assert len(few) == 4 == len(list(few))
        assert len(make_loader(TRAIN, max_batches=10**6)) == len(loader)

    @pytest.mark.parametrize("direction", ["forward", "backward"])
    def test_batches_per_epoch_goes_on_where_it_stopped(self, direction):
        everything = [batch["targets"].tolist() for batch in make_loader(TRAIN, direction=direction)]
        loader = make_loader(TRAIN, direction=direction, batches_per_epoch=7)
        assert len(loader) == 7
        epochs = [list(loader) for _ in range(len(everything) // 7 + 1)]
        assert all(len(epoch) == 7 for epoch in epochs)
        seen = [batch["targets"].tolist() for epoch in epochs for batch in epoch]
        assert (
            seen[: len(everything)] == everything
            and seen[len(everything) :] == everything[: len(seen)][: len(seen) - len(everything)]
        )
        # Each epoch and each pass over the text resets the hidden states.
        resets = [batch["first_window"] for epoch in epochs for batch in epoch]
        assert resets == [n % 7 == 0 or n == len(everything) for n in range(len(seen))]

    def files(self, tmp_path):
        return [write(tmp_path / f"{n}.txt", "\n".join([f"w{n}"] * (5 + n))) for n in range(6)]

    def test_shuffled_files_stay_contiguous(self, tmp_path):
        paths = self.files(tmp_path)
        loader = make_loader(paths, batch_size=1, shuffle=True)
        again = make_loader(paths, loader._vocab, batch_size=1, shuffle=True)
        other_seed = make_loader(paths, loader._vocab, batch_size=1, shuffle=True, seed=7)
        unshuffled = make_loader(paths, loader._vocab, batch_size=1)
        epochs = [rows_of(loader)[0] for _ in range(4)]
        assert epochs == [rows_of(again)[0] for _ in range(4)]
        assert epochs != [rows_of(other_seed)[0] for _ in range(4)]
        assert len({tuple(epoch) for epoch in epochs}) > 1
        word = loader._vocab.get_token_from_index
        for epoch in epochs:
            words = [word(number) for number in epoch]
            order = list(dict.fromkeys(w for w in words if w != "<eos>"))
            files = [stream_words(paths[int(w[1:])])[1:] for w in order]
            assert words == list(chain(*files)) and len(order) == 6
        assert [word(number) for number in rows_of(unshuffled)[0]] == stream_words(*paths)[1:]

    def test_one_stream_per_file(self, tmp_path):
        """As the original: each file is cut into rows of its own, with new hidden states."""
        paths = self.files(tmp_path)
        loader = make_loader(paths, batch_size=2, one_stream_per_file=True)
        expected = []
        for path in paths:
            expected += list(make_loader(path, loader._vocab, batch_size=2))
        batches = list(loader)
        assert len(batches) == len(loader) == len(expected)
        for batch, wanted in zip(batches, expected):
            assert torch.equal(ids(batch), ids(wanted)) and torch.equal(batch["targets"], wanted["targets"])
            assert batch["first_window"] == wanted["first_window"]

    def test_target_device(self):
        loader = make_loader(TRAIN)
        loader.set_target_device(torch.device("meta"))
        batch = next(iter(loader))
        assert ids(batch).device.type == batch["targets"].device.type == "meta"

    def test_from_params(self):
        reader = DatasetReader.from_params(Params({"type": "lm_stream", "end_of_sentence": "</s>"}))
        loader = DataLoader.from_params(
            Params({"type": "lm_stream", "batch_size": 2, "sequence_length": 3, "direction": "backward"}),
            reader=reader,
            data_path=TRAIN,
        )
        loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
        assert next(iter(loader))["targets"].shape == (2, 3)

    def test_errors(self, tmp_path):
        with pytest.raises(ConfigurationError, match="index_with"):
            next(iter(make_loader(TRAIN, vocab=False)))
        with pytest.raises(ConfigurationError, match="index_with"):
            len(make_loader(TRAIN, vocab=False))
        with pytest.raises(
            ConfigurationError,
            match=r"direction of .* is 'sideways'; expected one of 'forward'",
        ):
            make_loader(TRAIN, direction="sideways")
        for name in ("batch_size", "sequence_length", "batches_per_epoch", "max_batches"):
            with pytest.raises(ConfigurationError, match=f"{name} .* is 0"):
                make_loader(TRAIN, **{name: 0})
        with pytest.raises(ConfigurationError, match="nothing-here"):
            make_loader(str(tmp_path / "nothing-here"), vocab=False)
        with pytest.raises(ConfigurationError, match="found a BabiReader"):
            make_loader(TRAIN, reader=BabiReader())

    def test_a_vocabulary_without_the_boundary_is_an_error(self):
        vocab = Vocabulary()
        vocab.add_tokens_to_namespace(["the"])
        with pytest.raises(ConfigurationError, match=r"<eos>.*tokens_to_add"):
            make_loader(TRAIN, vocab)

    @pytest.mark.parametrize(
        "indexers",
        [
            {"tokens": SingleIdTokenIndexer(lowercase_tokens=True)},
            {"tokens": SingleIdTokenIndexer(namespace="words")},
            {"words": SingleIdTokenIndexer()},
            {"tokens": SingleIdTokenIndexer(), "c": TokenCharactersIndexer(min_padding_length=1)},
        ],
    )
    def test_other_indexers_need_other_loaders(self, indexers):
        reader = LmStreamReader(token_indexers=indexers)
        with pytest.raises(ConfigurationError, match="token_indexers"):
            make_loader(TRAIN, reader=reader)
        other = MultiProcessDataLoader(reader, TRAIN, batch_size=4)
        other.index_with(Vocabulary.from_instances(other.iter_instances()))
        assert set(next(iter(other))["source"]) == set(indexers)

    def test_an_error_in_the_text_comes_before_any_batch(self, tmp_path):
        bad = write(tmp_path / "bad", b"good line\n" * 5 + b"\xff\n")
        vocab = make_loader(TRAIN)._vocab
        with pytest.raises(ConfigurationError, match="bad, line 6"):
            make_loader(bad, vocab)
        with pytest.raises(ConfigurationError, match="bad, line 6"):
            make_loader([TRAIN, bad], vocab)
