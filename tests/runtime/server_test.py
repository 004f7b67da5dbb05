import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import httpx
import numpy
import pytest
from starlette.testclient import TestClient

from ldnet_runtime import Tagger
from ldnet_runtime.errors import InputError
from ldnet_runtime.formats.words import Words
from ldnet_runtime.prediction import Options
from ldnet_runtime.server.app import Limits, create_app
from ldnet_runtime.server.batcher import Batcher, Busy
from tests.resources import ROOT
from tests.runtime import models

TEXT = "Ada Lovelace lived in London ."


@pytest.fixture(scope="module")
def tagger():
    return Tagger(models.lstm_model(), threads=1)


@pytest.fixture
def client(tagger):
    with TestClient(create_app(tagger)) as client:
        yield client


def test_one_text_is_tagged_as_the_tagger_tags_it(tagger, client):
    output = client.post("/api/tag", json={"text": TEXT, "n_best": 100, "marginals": True}).json()
    expected = json.loads(json.dumps(tagger(TEXT, 100, True).to_json(Options(100, True))))
    for span in expected["spans"]:
        span["label"] = span["type"]
    assert output == expected


def test_several_inputs(tagger, client):
    inputs = [TEXT, {"tokens": ["London", "in"]}, ["Ada"], "", {"text": "Zork"}]
    outputs = client.post("/api/tag", json={"inputs": inputs, "confidences": False}).json()["outputs"]
    assert [output["tags"] for output in outputs] == [tagger(one).tags for one in inputs]
    assert all("confidence" not in span for output in outputs for span in output["spans"])


def test_the_runner_up_is_the_most_probable_other_type(tagger, client):
    sentences = [TEXT, "London Ada Babbage in", "Charles lived", "Lovelace Lovelace London"]
    seen = 0
    for sentence in sentences:
        output = client.post("/api/tag", json={"text": sentence, "runner_up": True}).json()
        assert "marginals" not in output
        marginals = tagger(sentence, marginals=True).marginals
        for span in output["spans"]:
            words = marginals[span["start"] : span["end"]]
            of_types = {
                kind: sum(
                    probability
                    for word in words
                    for tag, probability in word.items()
                    if (None if tag == "O" else tag[2:]) == kind
                )
                / len(words)
                for kind in {None, "PER", "LOC"} - {span["label"]}
            }
            best = max(of_types, key=of_types.get)
            assert span["runner_up"]["label"] == best
            assert span["runner_up"]["probability"] == pytest.approx(of_types[best])
            seen += 1
    assert seen


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "exactly one input"),
        (b"5", "exactly one input"),
        (b"{}", "exactly one input"),
        (b'{"text": "a", "inputs": ["a"]}', "exactly one input"),
        (b'{"text": "a", "sentence": "b"}', "exactly one input"),
        (b'{"sentence": "a", "tokens": ["b"]}', "exactly one input"),
        (b'{"text": 3}', "3"),
        (b'{"tokens": [null]}', "word 1"),
        (b'{"inputs": "a"}', "expected a list"),
        (b'{"text": "a", "n_best": true}', "n_best is True"),
        (b'{"text": "a", "n_best": 101}', "0 to 100"),
        (b'{"text": "a", "nbest": 1}', "'nbest'"),
    ],
)
def test_a_bad_request_is_refused_in_a_sentence(client, body, message):
    response = client.post("/api/tag", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_a_form_of_another_site_is_refused(client):
    response = client.post("/api/tag", content=b'{"text": "a"}', headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


def test_a_large_body_is_refused(tagger):
    with TestClient(create_app(tagger, Limits(max_bytes=100))) as client:
        bodies = [b'{"text": "%s"}' % (b"a" * (size - 12)) for size in (100, 101)]
        headers = {"Content-Type": "application/json"}
        allowed, response = (client.post("/api/tag", content=body, headers=headers) for body in bodies)
    assert (allowed.status_code, response.status_code) == (200, 413)
    assert "100 bytes" in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"text": "A" * 30}, "A sentence has 31 characters; the limit is 30."),
        ({"inputs": [["Ada"], [""] * 31]}, "A sentence has 31 characters; the limit is 30."),
        (
            {"tokens": ["a"] * 6, "n_best": 9},
            "ask for 9 values for each of 6 words; the limit is 50 in total.",
        ),
        ({"inputs": [["a"] * 6] * 2, "marginals": True}, "ask for 5 values for each of 12 words"),
        ({"inputs": [["a"] * 6] * 2, "runner_up": True}, "ask for 5 values for each of 12 words"),
    ],
)
def test_requests_that_need_much_memory_are_refused(tagger, body, message):
    with TestClient(create_app(tagger, Limits(max_sentence=30, max_cells=50))) as client:
        response = client.post("/api/tag", json=body)
        allowed = client.post("/api/tag", json={"tokens": ["a"] * 10, "marginals": True})
    assert response.status_code == 413
    assert message in response.json()["error"]
    assert allowed.status_code == 200


def test_another_host_name_is_refused(tagger):
    with TestClient(create_app(tagger, allowed_hosts=["localhost"]), base_url="http://localhost") as client:
        assert client.get("/api/info").status_code == 200
        assert client.get("/api/info", headers={"Host": "evil.example"}).status_code == 400


def test_a_lone_surrogate_does_not_break_the_answer(client):
    response = client.post(
        "/api/tag", content=b'{"tokens": ["\\ud800"]}', headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 200
    assert response.json()["words"] == ["?"]


class SlowTagger:
    """A tagger whose batches wait for a signal."""

    def __init__(self, tagger):
        self._tagger = tagger
        self.go = threading.Event()
        self.batches = []

    def __getattr__(self, name):
        return getattr(self._tagger, name)

    def decode(self, sentences, options):
        self.go.wait(10)
        self.batches.append(len(sentences))
        return self._tagger.decode(sentences, options)


def test_requests_that_wait_are_tagged_together(tagger):
    slow = SlowTagger(tagger)

    async def run():
        batcher = Batcher(slow, 20, 1000, max_words=1000)
        task = asyncio.create_task(batcher.run())
        words = [[tagger.split(f"Ada {number}")] for number in range(12)]
        requests = [asyncio.create_task(batcher.tag(one, Options())) for one in words]
        await asyncio.sleep(0.2)  # the first is being tagged, the others wait
        slow.go.set()
        predictions = await asyncio.gather(*requests)
        task.cancel()
        return [prediction.words for (prediction,) in predictions]

    assert asyncio.run(run()) == [["Ada", str(number)] for number in range(12)]
    assert len(slow.batches) <= 2
    assert sum(slow.batches) == 12


def test_options_of_one_request_do_not_reach_another(tagger):
    slow = SlowTagger(tagger)

    async def run():
        batcher = Batcher(slow, 20, 1000, max_words=1000)
        task = asyncio.create_task(batcher.run())
        wanted = [Options(n_best=number % 3, marginals=number % 2 == 0) for number in range(12)]
        requests = [asyncio.create_task(batcher.tag([tagger.split(TEXT)], options)) for options in wanted]
        await asyncio.sleep(0.2)
        slow.go.set()
        outputs = [(len(one.n_best), bool(one.marginals)) for (one,) in await asyncio.gather(*requests)]
        task.cancel()
        assert outputs == [(options.n_best, options.marginals) for options in wanted]

    asyncio.run(run())


def test_a_request_that_fails_does_not_reach_another():
    """A table without the last words stands for a lack of memory."""
    slow = SlowTagger(Tagger(models.word_model(models.word_table()[:5]), threads=1))

    async def run():
        batcher = Batcher(slow, 20, 1000, max_words=1000)
        task = asyncio.create_task(batcher.run())
        texts = ["Ada", "Ada", "London", "Lovelace"]
        requests = [asyncio.create_task(batcher.tag([slow.split(text)], Options())) for text in texts]
        await asyncio.sleep(0.2)  # the first is being tagged, the others wait
        slow.go.set()
        results = await asyncio.gather(*requests, return_exceptions=True)
        task.cancel()
        return [type(result) for result in results]

    assert asyncio.run(run()) == [list, list, InputError, list]


def test_a_client_that_goes_away_is_no_error_of_the_server(tagger):
    sent = []

    async def receive():
        return received.pop(0)

    async def send(message):
        sent.append(message)

    received = [
        {"type": "http.request", "body": b'{"te', "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/tag",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    asyncio.run(create_app(tagger)(scope, receive, send))
    assert sent[0]["status"] == 400


def test_requests_whose_clients_leave_are_not_computed(tagger):
    """The first one stops at its next batch of sentences; the second one, in the queue, does not start."""
    slow = SlowTagger(tagger)
    body = json.dumps({"inputs": [["Ada"] * 400] * 20}).encode()

    async def request(app):
        messages = [{"type": "http.request", "body": body}]
        left, sent = asyncio.Event(), []

        async def receive():
            if not messages:
                await left.wait()
                return {"type": "http.disconnect"}
            return messages.pop()

        async def send(message):
            sent.append(message)

        scope = {
            **{"type": "http", "method": "POST", "path": "/api/tag", "query_string": b""},
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }
        task = asyncio.create_task(app(scope, receive, send))
        await asyncio.sleep(0.2)
        return task, left, sent

    async def run():
        app = create_app(slow)
        async with app.router.lifespan_context(app):
            requests = [await request(app) for _ in range(2)]
            for task, left, sent in requests:
                left.set()
                await asyncio.wait_for(task, 5)
                assert sent[0]["status"] == 400
            slow.go.set()
            task, _, _ = await request(app)
            await asyncio.wait_for(task, 60)

    asyncio.run(run())
    assert slow.batches == [1] + [1] * 20


def test_an_error_names_the_input_and_is_short(client):
    response = client.post("/api/tag", json={"inputs": ["Ada", {"text": 5}]})
    assert response.status_code == 400
    assert response.json()["error"].startswith("input 2: its 'text' is 5; expected")
    response = client.post("/api/tag", json={"text": "Ada", "x" * 5000: 1})
    assert len(response.json()["error"]) == 1000


def test_a_full_queue_is_busy(tagger):
    slow = SlowTagger(tagger)

    async def run():
        batcher = Batcher(slow, 1, 1000, max_words=1)
        task = asyncio.create_task(batcher.run())
        words = [tagger.split("Ada")]
        first = asyncio.create_task(batcher.tag(words, Options()))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(batcher.tag(words, Options()))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batcher.tag(words, Options())
        slow.go.set()
        await asyncio.gather(first, second)
        task.cancel()

    asyncio.run(run())


def test_a_queue_with_many_words_is_busy_unless_it_is_empty(tagger):
    slow = SlowTagger(tagger)

    async def run():
        batcher = Batcher(slow, 20, 5, max_words=1)
        task = asyncio.create_task(batcher.run())
        requests = []
        for words in (["a"], ["a"] * 9, ["b"]):  # computed, waiting, refused
            requests.append(asyncio.create_task(batcher.tag([Words([words])], Options())))
            await asyncio.sleep(0.1)
        slow.go.set()
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert len(await batcher.tag([Words([["a"] * 9])], Options())) == 1
        task.cancel()
        return [type(result) for result in results]

    assert asyncio.run(run()) == [list, list, Busy]


def test_a_timeout_ends_a_request(tagger):
    slow = SlowTagger(tagger)
    with TestClient(create_app(slow, Limits(timeout=1.5))) as client:
        response = client.post("/api/tag", json={"text": "Ada"})
        assert response.status_code == 503
        assert "1.5 seconds" in response.json()["error"]
        slow.go.set()
        assert client.post("/api/tag", json={"text": "Ada"}).status_code == 200


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a real server."""
    path = tmp_path_factory.mktemp("served") / "toy.onnx"
    path.write_bytes(models.word_model())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ldnet_runtime", str(path), "--serve", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().split()[0]
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{address}api/info", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        assert process.wait(20) in (0, -15)


def test_many_clients_at_once_get_what_one_gets(served):
    tagger = Tagger(models.word_model(), threads=1)
    texts = [f"Ada Lovelace {number} London" for number in range(64)]

    async def run():
        async with httpx.AsyncClient(timeout=60) as client:
            posts = [client.post(f"{served}api/tag", json={"text": text}) for text in texts]
            return [response.json() for response in await asyncio.gather(*posts)]

    assert [output["tags"] for output in asyncio.run(run())] == [tagger(text).tags for text in texts]


def test_a_server_on_the_loopback_interface_refuses_another_host_name(served):
    """A page of another site could reach it through its own domain (DNS rebinding)."""
    statuses = [
        httpx.get(f"{served}api/info", headers=headers).status_code for headers in ({}, {"Host": "a.example"})
    ]
    assert statuses == [200, 400]


def test_a_port_in_use_is_a_sentence(served, tmp_path):
    path = tmp_path / "toy.onnx"
    path.write_bytes(models.word_model())
    port = served.rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-m", "ldnet_runtime", str(path), "--serve", port]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"the server cannot listen on 127.0.0.1:{port}: " in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "method, path, status, message",
    [
        ("GET", "/nothing", 404, "GET /nothing: Not Found."),
        ("GET", "/api/tag", 405, "GET /api/tag: Method Not Allowed."),
        ("POST", "/api/tag/", 404, "POST /api/tag/: Not Found."),
    ],
)
def test_other_paths_and_methods_are_errors_in_json(client, method, path, status, message):
    response = client.request(method, path)
    assert (response.status_code, response.json()) == (status, {"error": message})


def test_options_of_one_input_are_refused(client):
    response = client.post("/api/tag", json={"inputs": ["Ada", {"text": "Ada", "n_best": 3}]})
    assert response.status_code == 400
    assert response.json() == {"error": "input 2 has n_best; options stand beside inputs."}


def test_a_fault_of_the_model_is_no_fault_of_the_request():
    table = models.word_table()
    table[models.WORDS.index("London")] = numpy.inf
    with TestClient(create_app(Tagger(models.word_model(table)))) as client:
        assert client.post("/api/tag", json={"text": "Ada"}).status_code == 200
        response = client.post("/api/tag", json={"text": "Ada lived in London"})
    assert response.status_code == 500 and "infinite or NaN scores" in response.json()["error"]


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_in_a_browser(served, width):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.set_window_size(width, 900)
        browser.get(served)
        browser.find_element(By.ID, "text").send_keys("Ada Lovelace <b>lived</b> in London .")
        browser.find_element(By.TAG_NAME, "button").click()
        WebDriverWait(browser, 20).until(lambda page: page.find_elements(By.TAG_NAME, "mark"))
        assert [mark.text.split("\n")[0] for mark in browser.find_elements(By.TAG_NAME, "mark")] == [
            "Ada LovelacePER",
            "LondonLOC",
        ]
        cells = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "tbody td")]
        assert cells[:2] == ["Ada Lovelace", "PER"]
        assert cells[2].endswith("%")
        assert "(" in cells[3]
        assert not browser.find_elements(By.TAG_NAME, "b")  # markup in the text stays text
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        if "LDNET_SCREENSHOTS" in os.environ:  # a folder, to look at them
            browser.save_screenshot(f"{os.environ['LDNET_SCREENSHOTS']}/page-{width}.png")
    finally:
        browser.quit()
