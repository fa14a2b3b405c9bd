"""The server in front of MLflow's: what it refuses, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from http.client import HTTPConnection

import mlflow
import pytest
import uvicorn
from mlflow.pyfunc import scoring_server

from crack_pipeline.serving.server import Guarded, main
from served_pictures import files, text

MAX_BODY = 200_000
BODY = json.dumps({"dataframe_records": [{"image": text(files()["jpg"])}]}).encode()
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def port(registry):
    model = mlflow.pyfunc.load_model("models:/segmentation/1")
    app = Guarded(scoring_server.init(model), MAX_BODY, body_seconds=0.7)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def ask(port):
    """Send bytes as they are; gives what comes back, as status and message."""

    def asked(*parts, pause=0.0):
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            answer = b""
            try:
                while more := connection.recv(65536):
                    answer += more
            except ConnectionResetError:  # it stops listening to what it has refused
                pass
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body).get("message")

    return asked


def request(body, *headers, length=True):
    lines = ["POST /invocations HTTP/1.1", "Host: here", "Connection: close", *headers]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_what_is_well_passes(port, ask):
    assert ask(request(BODY, "Content-Type: application/json")) == (200, None)
    connection = HTTPConnection("127.0.0.1", port)
    for _ in range(2):  # a connection that is kept
        connection.request("POST", "/invocations", BODY, JSON)
        assert connection.getresponse().read().startswith(b'{"predictions"')
    connection.request("GET", "/ping")
    assert connection.getresponse().status == 200


def test_what_does_not_say_its_kind_is_refused(ask):
    for headers in ((), ("Content-Type: application/vnd.apache.parquet",), ("Content-Type: text/csv",)):
        assert ask(request(BODY, *headers)) == (415, "only JSON is read here: say Content-Type: application/json")
    assert ask(request(BODY, "content-type: application/json; charset=utf-8"))[0] == 200


def test_a_body_that_says_it_is_too_large_is_refused_unread(ask):
    head = request(b"", "Content-Type: application/json", f"Content-Length: {10**12}", length=False)
    assert ask(head) == (413, "the body has more than the 200,000 bytes allowed")


def test_a_body_that_does_not_say_its_length_is_read_up_to_the_limit(ask):
    chunked = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    chunk = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n"
    # No end is sent: that it is refused says that nobody waits for one.
    assert ask(request(chunk * 4, *chunked, length=False))[0] == 413
    whole = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
    assert ask(request(whole, *chunked, length=False))[0] == 200


def test_a_client_that_does_not_go_on_is_not_waited_for(ask):
    half = request(BODY, "Content-Type: application/json")[:-100]
    assert ask(half) == (408, "the body was not there after 0.7 s")


def test_a_body_that_is_nested_too_deeply_is_refused(ask):
    deep = request(b"[" * 100_000, "Content-Type: application/json")
    assert ask(deep) == (400, "the body is nested too deeply")


def test_other_failures_stay_failures():
    async def failing(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"sorry"})
        raise OSError("disk")

    sent = []

    async def receive():
        return {"type": "http.request", "body": b"{}"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}
    with pytest.raises(OSError, match="disk"):
        asyncio.run(Guarded(failing)(scope, receive, send))
    assert [message.get("status", message.get("body")) for message in sent] == [500, b"sorry"]


def test_it_lives_on_after_clients_that_hang_up(port, ask):
    for cut in (3, 60, 200, 1000):
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(request(BODY, "Content-Type: application/json")[:cut])
    assert ask(request(BODY, "Content-Type: application/json"))[0] == 200


def test_a_model_that_is_not_there_is_one_message(registry, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    with pytest.raises(SystemExit):
        main(["models:/segmentation/99"])
    assert "models:/segmentation/99 cannot be loaded: " in capsys.readouterr().err
