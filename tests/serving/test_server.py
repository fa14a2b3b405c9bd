"""The server in front of MLflow's: what it refuses, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from http.client import HTTPConnection

import mlflow
import pandas as pd
import pytest
import uvicorn

from crack_pipeline.serving.server import Guarded, hurried, main
from served_pictures import files, text

MAX_BODY = 200_000
GOOD = text(files()["jpg"])
BODY = json.dumps({"dataframe_records": [{"image": GOOD}]}).encode()
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def model(registry):
    return mlflow.pyfunc.load_model("models:/segmentation/1")


@pytest.fixture(scope="module")
def port(model):
    app = Guarded(model, MAX_BODY, body_seconds=0.7)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", http=hurried(0.7)))
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
        is_json = b"application/json" in head
        return int(head.split()[1]), json.loads(body).get("message") if is_json else None

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


def test_headers_of_any_length_are_not_read(ask):
    assert ask(request(b"", f"X-Long: {'a' * 20_000}", length=False)[:-4]) == (400, None)


@pytest.mark.parametrize("sent", [b"", b"POST /invocations HTTP/1.1\r\nHost: he"])
def test_a_client_that_asks_nothing_is_hung_up_on(port, sent):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    assert time.monotonic() - began < 5


def test_the_forms_of_mlflow_are_all_answered(port, ask, model):
    expected = model.predict(pd.DataFrame({"image": [GOOD, GOOD]}))
    connection = HTTPConnection("127.0.0.1", port)
    forms = [
        {"dataframe_records": [{"image": GOOD, "id": 7}, {"image": GOOD}]},
        {"dataframe_split": {"columns": ["id", "image"], "index": [3, 4], "data": [[1, GOOD], [2, GOOD]]}},
        *({name: rows} for name in ("inputs", "instances") for rows in ({"image": [GOOD, GOOD]}, [GOOD, GOOD])),
        {"instances": [{"image": GOOD}, {"image": f"data:image/jpeg;base64,{GOOD}"}], "params": None},
    ]
    for form in forms:
        connection.request("POST", "/invocations", json.dumps(form), JSON)
        assert json.load(connection.getresponse()) == {"predictions": expected}


RECORDS = json.dumps({"dataframe_records": [{"image": GOOD}]})[:-1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "no valid JSON"),
        ("\xff", "no valid JSON"),
        ('{"inputs": [[' + "9" * 5000 + "]]}", "no valid JSON"),
        ("[]", "the body is a JSON object with one of dataframe_records"),
        ("{}", "and nothing else, not 0 of them"),
        (f'{RECORDS}, "inputs": []}}', "not 2 of them"),
        (f'{RECORDS}, "threshold": 0.5}}', "nothing else, not 'threshold'"),
        (f'{RECORDS}, "params": [1]}}', "params must be an object"),
        (f'{RECORDS}, "params": {{"treshold": 0.5}}}}', "params has no 'treshold': it takes threshold, mask"),
        (f'{RECORDS}, "params": {{"\\ud800": 1}}}}', r"params has no '\ud800'"),
        (f'{RECORDS}, "params": {{"threshold": "0.5"}}}}', "threshold"),
        (f'{RECORDS}, "params": {{"threshold": 2}}}}', "it must be a number from 0 to 1"),
        ('{"dataframe_records": [{"image": "AAAA"}, {"picture": 1}]}', "row 1 has no image"),
        ('{"dataframe_records": ["AAAA"]}', "dataframe_records is a list of photographs"),
        ('{"dataframe_split": {"columns": ["image"], "data": [["AAAA"], []]}}', "dataframe_split is {"),
        ('{"dataframe_split": {"columns": ["image", "image"], "data": []}}', "dataframe_split is {"),
        ('{"inputs": [' + "0," * 10_000 + "0]}", "10,001 images are more than the 10,000"),
        ('{"inputs": "AAAA"}', "inputs is a list of photographs"),
        (
            '{"inputs": {"image": ["AAAA", null]}}',
            "row 0: not an image: JPEG, PNG, TIFF, BMP and WebP are read; row 1",
        ),
        ('{"instances": [{"image": [[NaN]]}]}', "row 0: pixels are whole numbers from 0 to 255"),
    ],
)
def test_what_makes_no_sense_is_one_message(ask, body, said):
    status, message = ask(request(body.encode("latin-1"), "Content-Type: application/json"))
    assert status == 400
    assert said in message


def test_rows_with_a_name_each_for_their_photograph_take_no_memory(ask):
    """As a table, these 150 kB are 2.3 GB."""
    rows = [{f"{number:x}": 0} for number in range(12_000)]
    status, message = ask(request(json.dumps({"dataframe_records": rows}).encode(), "Content-Type: application/json"))
    assert (status, message) == (400, "row 0 has no image")


def test_two_types_of_content_are_one_too_many(ask):
    types = ("Content-Type: application/vnd.apache.parquet", "Content-Type: application/json")
    assert ask(request(BODY, *types))[0] == 415


@pytest.mark.parametrize("error", [OSError("disk /secret"), MemoryError(), ValueError("secret")])
def test_what_goes_wrong_otherwise_is_told_to_the_log_alone(model, monkeypatch, caplog, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(type(model), "predict", fail)
    sent, received = [], [{"type": "http.request", "body": BODY}]

    async def receive():
        return received.pop()

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": headers}
    asyncio.run(Guarded(model)(scope, receive, send))
    assert sent[0]["status"] == 500
    message = json.loads(sent[1]["body"])["message"]
    assert message == "the model could not answer: the log of the server says why"
    assert repr(error) in caplog.text or str(error) in caplog.text


def test_who_waits_too_long_is_told(model, monkeypatch):
    monkeypatch.setattr(type(model), "predict", lambda *_, **__: time.sleep(0.3))
    sent = []

    async def receive():
        return {"type": "http.request", "body": BODY}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": headers}
    asyncio.run(Guarded(model, answer_seconds=0.05)(scope, receive, send))
    assert sent[0]["status"] == 504


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
