"""Batching of concurrent requests."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ldnet_runtime.errors import InputError
from ldnet_runtime.formats.words import Words, num_words
from ldnet_runtime.prediction import Decoded, Options, Prediction
from ldnet_runtime.tagger import Tagger, tag_words


class Busy(Exception):
    """The queue of requests is full."""


class _Request(NamedTuple):
    inputs: Sequence[Words]
    options: Options
    result: "asyncio.Future[list[Prediction]]"


class Batcher:
    """
    Tags the inputs of concurrent requests in shared batches. While one batch is computed, new requests wait in a queue
    and form the next batch, so a single request is never delayed.

    # Parameters

    tagger : `Tagger`
    max_waiting : `int`
        The maximum number of requests in the queue.
    max_waiting_words : `int`
        The maximum number of their words, unless the queue has one request only.
    max_words : `int`
        The maximum number of words per batch, unless one request has more.
    """

    def __init__(self, tagger: Tagger, max_waiting: int, max_waiting_words: int, max_words: int) -> None:
        self._tagger = tagger
        self._max_waiting_words = max_waiting_words
        self._waiting_words = 0
        self._max_words = max_words
        self._queue: asyncio.Queue[_Request] = asyncio.Queue(max_waiting)
        # ONNX Runtime releases Python's lock, so the event loop stays responsive.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tagger")

    async def tag(self, inputs: Sequence[Words], options: Options) -> list[Prediction]:
        """Tag the inputs of one request. Raises `Busy` if the queue is full."""
        request = _Request(inputs, options, asyncio.get_running_loop().create_future())
        words = _num_words(request)
        is_large = self._waiting_words + words > self._max_waiting_words
        if self._queue.full() or (is_large and not self._queue.empty()):
            raise Busy
        self._waiting_words += words
        self._queue.put_nowait(request)
        return await request.result

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        try:
            while True:
                for options, requests in _by_options(await self._next_batch()).items():
                    await self._tag_batch(requests, options)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _next_batch(self) -> list[_Request]:
        batch = [await self._queue.get()]
        words = _num_words(batch[0])
        while words < self._max_words and not self._queue.empty():
            batch.append(self._queue.get_nowait())
            words += _num_words(batch[-1])
        self._waiting_words -= words
        return batch

    async def _tag_batch(self, requests: list[_Request], options: Options) -> None:
        # A request whose client has left or timed out is cancelled.
        requests = [request for request in requests if not request.result.done()]
        try:
            predictions = iter(
                await asyncio.get_running_loop().run_in_executor(
                    self._executor, self._compute, requests, options
                )
            )
        except Exception as error:
            if len(requests) > 1:  # one of them is too large: the others do not fail with it
                for request in requests:
                    await self._tag_batch([request], options)
            elif requests and not requests[0].result.done():
                requests[0].result.set_exception(error)
            return
        for request in requests:
            own = [next(predictions) for _ in request.inputs]
            if not request.result.done():
                request.result.set_result(own)

    def _compute(self, requests: Sequence[_Request], options: Options) -> list[Prediction]:
        def decode(sentences: Sequence[Sequence[str]], options: Options) -> list[Decoded]:
            if all(request.result.done() for request in requests):
                raise InputError("nobody waits for the result.")
            return self._tagger.decode(sentences, options)

        inputs = [one for request in requests for one in request.inputs]
        return tag_words(inputs, decode, options, self._tagger.tokens_per_batch, self._tagger.threads)


def _num_words(request: _Request) -> int:
    return sum(map(num_words, request.inputs))


def _by_options(requests: Sequence[_Request]) -> dict[Options, list[_Request]]:
    groups: dict[Options, list[_Request]] = {}
    for request in requests:
        groups.setdefault(request.options, []).append(request)
    return groups
