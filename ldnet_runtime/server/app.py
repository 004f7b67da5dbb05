"""ASGI application: JSON API and web page."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ldnet_runtime.errors import InputError, ModelFileError
from ldnet_runtime.formats.words import Words
from ldnet_runtime.prediction import Options, Prediction
from ldnet_runtime.server.batcher import Batcher, Busy
from ldnet_runtime.server.request import RequestError, inputs_and_options, parse
from ldnet_runtime.tag_schemes import UnreadableTag, spans_from_tags
from ldnet_runtime.tagger import Tagger

_FOLDER = Path(__file__).resolve().parent
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_LONGEST_ERROR = 1000


@dataclass(frozen=True)
class Limits:
    """
    # Parameters

    max_bytes : `int`, optional (default = `1_000_000`)
        The maximum size of a request body.
    max_n_best : `int`, optional (default = `100`)
    timeout : `float`, optional (default = `30.0`)
        Time limit for a request in seconds, including its body.
    max_sentence : `int`, optional (default = `20_000`)
        The maximum number of characters of one sentence, which is computed as a whole.
    max_cells : `int`, optional (default = `1_000_000`)
        The maximum size of an answer: its words times the tags and probabilities of each word.
    max_waiting : `int`, optional (default = `256`)
        The maximum number of waiting requests. Further ones get status 503.
    max_waiting_words : `int`, optional (default = `500_000`)
        The maximum number of their words, unless only one request waits.
    max_words : `int`, optional (default = `4096`)
        The maximum number of words per batch.
    """

    max_bytes: int = 1_000_000
    max_n_best: int = 100
    timeout: float = 30.0
    max_sentence: int = 20_000
    max_cells: int = 1_000_000
    max_waiting: int = 256
    max_waiting_words: int = 500_000
    max_words: int = 4096


def create_app(
    tagger: Tagger, limits: Limits | None = None, allowed_hosts: Sequence[str] = ("*",)
) -> Starlette:
    """
    An ASGI application for one tagger.

    # Parameters

    tagger : `Tagger`
    limits : `Limits`, optional
    allowed_hosts : `Sequence[str]`, optional
        The allowed host names of requests. A server on the loopback interface should list its names, because pages of
        other sites could otherwise reach it through their domain (DNS rebinding).
    """
    server = _Server(tagger, limits or Limits())
    routes = [
        Route("/", server.file("page.html")),
        Route("/page.css", server.file("page.css")),
        Route("/page.js", server.file("page.js")),
        Route("/api/info", server.info),
        Route("/api/tag", server.tag, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=server.lifespan,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts))],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    return app


class _Server:
    def __init__(self, tagger: Tagger, limits: Limits) -> None:
        self._tagger = tagger
        self._limits = limits
        self._batcher: Batcher | None = None
        self._types = _types_of_tags(tagger)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        limits = self._limits
        self._batcher = Batcher(self._tagger, limits.max_waiting, limits.max_waiting_words, limits.max_words)
        task = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def file(self, name: str) -> Any:
        async def respond(request: Request) -> Response:
            return FileResponse(_FOLDER / name, headers=_HEADERS)

        return respond

    async def info(self, request: Request) -> Response:
        description = self._tagger.description
        body = {
            "name": Path(self._tagger.name).name,
            "labels": self._tagger.span_types,
            "label_encoding": description.label_encoding,
            "provenance": description.provenance,
        }
        return _Json(body, headers=_HEADERS)

    async def tag(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._limits.timeout):
                parsed = parse(await self._body(request))
                answer = await _while_connected(request, self._answer(parsed))
            return _Json(answer, headers=_HEADERS)
        except RequestError as error:
            return _error(error.status, str(error))
        except Busy:
            return _error(503, "Too many requests are waiting. Try again later.", {"Retry-After": "1"})
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except TimeoutError:
            return _error(503, f"The request took more than {self._limits.timeout:g} seconds.")
        except ModelFileError as error:
            return _error(500, str(error))
        except ValueError as error:  # an input that the tagger refuses
            return _error(400, str(error))

    async def _answer(self, parsed: dict[str, Any]) -> dict[str, Any]:
        inputs, options, runner_up = inputs_and_options(parsed, self._limits.max_n_best)
        split = await asyncio.to_thread(self._split, inputs, "inputs" in parsed)
        assert self._batcher is not None
        computed = Options(options.n_best, options.marginals or runner_up, options.confidences)
        self._check_sizes([sentence for one in split for sentence in one.sentences], computed)
        predictions = await self._batcher.tag(split, computed)
        outputs = [self._output(prediction, options, runner_up) for prediction in predictions]
        return {"outputs": outputs} if "inputs" in parsed else outputs[0]

    def _split(self, inputs: Sequence[Any], are_numbered: bool) -> list[Words]:
        split = []
        for number, one in enumerate(inputs, 1):
            try:
                split.append(self._tagger.split(one))
            except InputError as error:
                raise RequestError(400, f"input {number}: {error}" if are_numbered else str(error)) from error
        return split

    def _check_sizes(self, sentences: Sequence[Sequence[str]], options: Options) -> None:
        limits = self._limits
        longest = max((sum(map(len, sentence)) + len(sentence) for sentence in sentences), default=0)
        if longest > limits.max_sentence:
            raise RequestError(
                413, f"A sentence has {longest:,} characters; the limit is {limits.max_sentence:,}."
            )
        of_word = options.n_best + len(self._tagger.labels) * options.marginals
        words = sum(map(len, sentences))
        if words * of_word > limits.max_cells:
            raise RequestError(
                413,
                f"n_best, marginals and runner_up ask for {of_word} values for each of {words:,} words; the limit is "
                f"{limits.max_cells:,} in total.",
            )

    async def _body(self, request: Request) -> bytes:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, "The Content-Type must be application/json.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limits.max_bytes:
                raise RequestError(413, f"The request has more than {self._limits.max_bytes:,} bytes.")
        return bytes(body)

    def _output(self, prediction: Prediction, options: Options, runner_up: bool) -> dict[str, Any]:
        output = prediction.to_json(options)
        if runner_up:
            for span in output["spans"]:
                span["runner_up"] = self._runner_up(span, prediction.marginals)
        for span in output["spans"]:
            span["label"] = span["type"]
        return output

    def _runner_up(
        self, span: Mapping[str, Any], marginals: Sequence[Mapping[str, float]]
    ) -> dict[str, Any] | None:
        """The most probable alternative type for the words of a span, on average; `None` means no entity."""
        totals: dict[str | None, float] = {}
        words = marginals[span["start"] : span["end"]]
        for word in words:
            for tag, probability in word.items():
                kind = self._types[tag]
                totals[kind] = totals.get(kind, 0.0) + probability
        totals.pop(span["type"], None)
        if not totals:
            return None
        label, total = max(totals.items(), key=lambda item: item[1])
        return {"label": label, "probability": total / len(words)}


async def _while_connected(request: Request, answer: Coroutine[Any, Any, Any]) -> Any:
    """The answer, unless the client leaves before it is complete."""
    computing = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(request.receive())  # after the body, the only message is a disconnect
    try:
        await asyncio.wait([computing, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not computing.done():
            raise ClientDisconnect
        return computing.result()
    finally:
        computing.cancel()
        leaving.cancel()


def _types_of_tags(tagger: Tagger) -> dict[str, str | None]:
    types: dict[str, str | None] = {}
    for label in tagger.labels:
        spans: Sequence[Any] = ()
        if tagger.description.label_encoding is not None:
            with contextlib.suppress(UnreadableTag):  # a boundary tag
                spans = spans_from_tags([label], tagger.description.label_encoding)
        types[label] = spans[0][0] if spans else None
    return types


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        # JSON input can hold lone surrogates, which UTF-8 cannot: they become "?".
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


async def _http_error(request: Request, error: Exception) -> Response:
    """An unknown path or method."""
    assert isinstance(error, HTTPException)
    return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}.", error.headers)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return _Json({"error": message[:_LONGEST_ERROR]}, status, {**_HEADERS, **(headers or {})})
