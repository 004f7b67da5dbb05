"""
Load the server of `ldnet-tag --serve` with many clients, and check each answer:

    python benchmarks/serving.py ner.onnx article.txt --clients 64 --seconds 60

Each client posts one paragraph after another to /api/tag and waits for the answer, which must equal that of the same
tagger in Python. Prints requests, words per second, the median and 99th percentile of the response
time, and the server's memory. Clients and server share the machine's cores.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ldnet_runtime import Tagger  # noqa: E402


def spans_of(answer: Any) -> list[tuple[int, int, str]]:
    """The positions and labels of an answer's spans, from Python or from JSON."""
    if isinstance(answer, dict):
        return [(span["start_char"], span["end_char"], span["type"]) for span in answer["spans"]]
    return [(span.start_char, span.end_char, span.label) for span in answer]


async def client(url: str, texts: list[str], expected: list[Any], first: int, end: float) -> list[float]:
    """Post texts until `end`; the response times in seconds. Raises `SystemExit` for a wrong answer."""
    times = []
    async with httpx.AsyncClient(timeout=60) as session:
        number = first
        while time.monotonic() < end:
            started = time.monotonic()
            answer = await session.post(f"{url}/api/tag", json={"text": texts[number % len(texts)]})
            times.append(time.monotonic() - started)
            if answer.status_code != 200 or spans_of(answer.json()) != expected[number % len(texts)]:
                raise SystemExit(
                    f"Wrong answer to text {number % len(texts)}: {answer.status_code} {answer.text[:200]}"
                )
            number += 1
    return times


async def load(url: str, texts: list[str], expected: list[Any], clients: int, seconds: float) -> list[float]:
    """All clients' response times."""
    end = time.monotonic() + seconds
    runs = await asyncio.gather(*(client(url, texts, expected, first, end) for first in range(clients)))
    return [time for run in runs for time in run]


def wait_until_ready(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Return when the server answers."""
    while server.poll() is None:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit("The server stopped.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="an exported tagger")
    parser.add_argument("text", type=Path, help="plain text; an empty line ends a paragraph")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    paragraphs = arguments.text.read_text(encoding="utf-8").split("\n\n")
    texts = [text.strip() for text in paragraphs if text.strip()]
    tagger = Tagger(arguments.model)
    expected = [spans_of(tagger(text)) for text in texts]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ldnet_runtime", str(arguments.model), "--serve", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, server)
        times = asyncio.run(load(url, texts, expected, arguments.clients, arguments.seconds))
        status = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    finally:
        server.terminate()
        server.wait()
    words = statistics.mean(len(text.split()) for text in texts)
    settings = {
        **{name: str(value) for name, value in vars(arguments).items()},
        "texts": len(texts),
        "python": platform.python_version(),
        "onnxruntime": metadata.version("onnxruntime"),
        "cores": os.cpu_count(),
    }
    print(json.dumps(settings))
    print(
        f"{len(times):,} requests, all answers right: {len(times) / arguments.seconds:,.0f} requests/s, "
        f"{len(times) * words / arguments.seconds:,.0f} words/s"
    )
    percentiles = statistics.quantiles(times, n=100)
    print(
        f"response time: median {1e3 * percentiles[49]:.0f} ms, 99th percentile {1e3 * percentiles[98]:.0f} ms"
    )
    print(next(line for line in status.splitlines() if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
