"""``mlflow models serve`` as its callers see it."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest

from hostile import encoded, photograph, png_of_size
from served_pictures import files, text
from servers import champion_served

SECONDS = 120
GOOD = text(files()["jpg"])
LARGE = text(cv2.imencode(".png", np.zeros((600, 500), np.uint8))[1].tobytes())


@pytest.fixture(scope="module")
def address(registry, surroundings, tmp_path_factory):
    """Serve the champion in a process of its own."""
    mlflow.MlflowClient().set_registered_model_alias("segmentation", "champion", "1")
    log = tmp_path_factory.mktemp("server") / "log"
    with champion_served("segmentation", registry, surroundings, log) as served:
        yield served


@pytest.fixture(scope="module")
def ask(address):
    """Send a body; gives the status and what is answered."""

    def asked(body, kind="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(address, data, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return asked


def records(*images):
    return {"dataframe_records": [{"image": image} for image in images]}


def test_the_champion_answers_over_http_as_it_does_in_python(ask, registry):
    model = mlflow.pyfunc.load_model("models:/segmentation/1")
    expected = model.predict(pd.DataFrame({"image": [GOOD, GOOD]}))
    for body in (records(GOOD, GOOD), {"inputs": {"image": [GOOD, GOOD]}}, {"instances": [{"image": GOOD}] * 2}):
        status, answer = ask(body)
        assert status == 200
        assert answer["predictions"] == expected
    assert (expected[0]["model"], expected[0]["version"]) == ("segmentation", "1")
    status, answer = ask(records(GOOD) | {"params": {"threshold": 0.5, "mask": False}})
    assert (status, answer["predictions"][0]["threshold"], "mask" in answer["predictions"][0]) == (200, 0.5, False)


def test_bad_requests_are_refused_and_the_server_lives_on(ask):
    refused = [
        (records(GOOD, "AAAA"), 400, "row 1: not an image"),
        (records("not base64"), 400, "row 0: not base64"),
        (records(LARGE), 400, "row 0: 500 × 600 px are more than the 250,000 px allowed"),
        (records("A" * 500_000), 400, "375,000 bytes are more than the 300,000 allowed"),
        (records(None), 400, "row 0: a picture is base64 or pixels"),
        (records([[1, 2], [3]]), 400, "rows of different lengths"),
        (records(), 400, "image"),
        ({"dataframe_records": [{"picture": GOOD}]}, 400, "missing inputs"),
        (records(GOOD) | {"params": {"threshold": "high"}}, 400, "threshold"),
        (records(GOOD) | {"params": {"threshold": 7}}, 400, "from 0 to 1"),
        ({"nothing": []}, 400, "exactly one of the input fields"),
        (b"\xff\xfe{", 400, "valid JSON"),
    ]
    for body, status, said in refused:
        found, answer = ask(body)
        assert found == status, answer
        assert said in (json.loads(answer)["message"]), answer
    assert ask(b"\x89PNG", "image/png")[0] == 415
    assert ask(records(GOOD))[0] == 200


def picture(mode, kind, size=(40, 50), **options):
    return text(encoded(photograph(3).convert(mode).resize(size), kind, **options))


def test_hostile_pictures_and_wishes_are_refused_and_the_server_lives_on(ask):
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"/>'
    refused = [
        (records(text(png_of_size(60_000, 60_000))), "3,600,000,000 px are more than"),
        (records(picture("RGB", "PNG", (1, 1))), "1 × 1 px; at least 16 px"),
        (records(picture("L", "PNG", (1, 100_000))), "1 × 100000 px; at least 16 px"),
        (records(text(svg)), "not an image"),
        (records(picture("RGB", "GIF")), "a GIF file"),
        (records(GOOD[:-3]), "not base64"),
        (records(GOOD[:400]), "row 0: truncated or damaged"),
        (records("file:///etc/hostname"), "not base64"),
        (records(*["AAAA"] * 1000), "1,000 images are more than the 256 allowed"),
        (records([[10**400] * 20] * 20), "whole numbers from 0 to 255"),
        (records({"b64": GOOD}), "not dict"),
        ({"dataframe_split": {"columns": ["image", "more"], "data": [[GOOD]]}}, "2 columns passed"),
        (records(GOOD) | {"params": [1]}, "must be a dictionary"),
        (records(GOOD) | {"params": {"mask": "yes"}}, "boolean"),
        *((records(GOOD) | {"params": {"threshold": no}}, "threshold") for no in (float("nan"), -0.5, "0.5", True)),
    ]
    for body, said in refused:
        found, answer = ask(body)
        assert found == 400, answer
        assert said in json.loads(answer)["message"], answer
    status, answer = ask(records(GOOD, picture("CMYK", "JPEG"), picture("P", "PNG"), picture("L", "TIFF", (16, 900))))
    assert status == 200
    assert [(one["width"], one["height"]) for one in answer["predictions"][1:]] == [(40, 50), (40, 50), (16, 900)]
    assert ask({"dataframe_split": {"columns": ["image"], "data": []}}) == (200, {"predictions": []})


def test_of_several_frames_the_first_is_answered(ask):
    stream, first = io.BytesIO(), photograph(1)
    first.save(stream, "PNG", save_all=True, append_images=[photograph(2), photograph(3)])
    status, answer = ask(records(text(stream.getvalue()), text(encoded(first, "PNG"))))
    assert status == 200
    assert answer["predictions"][0] == answer["predictions"][1]


def test_clients_that_ask_at_the_same_time_get_their_own_answers(ask):
    bodies = [records(text(data)) for data in files().values()] + [records("AAAA")]
    alone = [ask(body) for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, bodies * 3))
    assert together == alone * 3
