"""The served models beside the pipelines that measure them."""

import base64

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from crack_pipeline.evaluation.segmentation_counts import level_of
from crack_pipeline.imaging import camera
from crack_pipeline.imaging.decoding import decode, prepare
from crack_pipeline.pipelines.anomaly.nodes import list_new_predictions, score_new
from crack_pipeline.pipelines.ingestion.parameters import Reading
from crack_pipeline.pipelines.segmentation.parameters import Output, Report
from crack_pipeline.pipelines.segmentation.predicting import segment_photographs
from crack_pipeline.serving import run_lengths
from crack_pipeline.training.segmenting import Tiles
from served_pictures import files, scene, text

FILES = files()


@pytest.fixture(scope="module")
def served_segmenter(registry):
    return mlflow.pyfunc.load_model("models:/segmentation/1")


@pytest.fixture(scope="module")
def served_detector(registry):
    return mlflow.pyfunc.load_model("models:/anomaly/1")


@pytest.fixture
def ask(served_segmenter, served_detector):
    """Ask one of them; gives an answer per image."""
    models = {"segmenter": served_segmenter, "detector": served_detector}

    def asked(kind, *images, **params):
        return models[kind].predict(pd.DataFrame({"image": list(images)}), params=params or None)

    return asked


class Files:
    """A root of photographs."""

    def read(self, path):
        return FILES[path]


class Stacked:
    def __init__(self, pictures):
        self.pictures = pictures

    def take(self, rows):
        return np.stack([self.pictures[row] for row in rows])


def test_a_photograph_of_any_format_gets_the_mask_of_the_pipeline(ask, segmenter, plan):
    table = pd.DataFrame({"path": list(FILES)})
    tiles = Tiles.model_validate(segmenter.facts["tiles"])
    chunks = segment_photographs(
        Files(), table, segmenter, Reading(), tiles, Output(overlays=False, probabilities=True), plan
    )
    expected = [one for chunk in chunks for one in chunk.photographs]
    assert len(expected) == len(FILES)
    found = ask("segmenter", *[text(data) for data in FILES.values()])
    for one, answer in zip(expected, found, strict=True):
        mask, probability = (camera.decode(one.files[name], colour=False) for name in ("mask", "probability"))
        np.testing.assert_array_equal(run_lengths.decode(answer["mask"]), mask // 255)
        assert {name: answer[name] for name in ("score", "crack_pixels", "width", "height")} == {
            name: one.facts[name] for name in ("score", "crack_pixels", "width", "height")
        }
        assert answer["probability"] == (float(probability.max()) + 0.5) / 256
        assert answer["label"] == ("crack" if answer["crack_pixels"] >= Report().least_pixels else "normal")
    assert len({answer["crack_pixels"] for answer in found}) > 3


def test_a_photograph_of_any_format_gets_the_score_of_the_pipeline(ask, detector, plan):
    prepared = [prepare(decode(data, mode="grey"), 32, "grey") for data in FILES.values()]
    manifest = pd.DataFrame({"image_id": list(FILES), "path": list(FILES), "label": None, "group": 0})
    manifest["row"] = range(len(FILES))
    stack = type("Stack", (Stacked,), {"index": manifest})(prepared)
    expected = list_new_predictions(score_new(detector, stack, manifest, plan), detector).set_index("path")
    found = ask("detector", *[text(data) for data in FILES.values()])
    for path, answer in zip(FILES, found, strict=True):
        assert answer["score"] == pytest.approx(expected.loc[path, "score"], rel=1e-5)
        assert answer["label"] == expected.loc[path, "predicted"]
        assert answer["probability"] is None


def test_an_answer_says_who_gave_it_and_how(ask, segmenter, detector):
    (where,) = ask("segmenter", text(FILES["jpg"]))
    (whether,) = ask("detector", text(FILES["jpg"]))
    assert (where["model"], where["version"], where["threshold"]) == ("segmentation", "1", 0.40625)
    assert (whether["model"], whether["version"], whether["threshold"]) == ("anomaly", "1", 0.05)
    assert where["preprocessing"]["mode"] == "rgb"
    assert where["preprocessing"]["tiles"]["augmentations"] == 2
    assert where["preprocessing"]["precision"] == segmenter.facts["plan"]["precision"]
    assert (whether["preprocessing"]["mode"], whether["preprocessing"]["size"]) == ("grey", 32)


def test_a_request_can_ask_for_another_threshold(ask):
    photograph = text(FILES["jpg"])
    own, low, high = (ask("segmenter", photograph, **wish)[0] for wish in ({}, {"threshold": 0}, {"threshold": 1}))
    assert low["crack_share"] == 1
    assert low["mask"]["counts"] == [0, 200 * 130]
    assert (high["crack_pixels"], high["label"], high["threshold"]) == (0, "normal", 1)
    assert low["score"] == own["score"] == high["score"]
    between = ask("segmenter", photograph, threshold=0.4001)[0]["threshold"]
    assert between == 103 / 256 and level_of(between) == 103
    score = ask("detector", photograph)[0]["score"]
    assert ask("detector", photograph, threshold=score - 0.01)[0]["label"] == "crack"
    assert ask("detector", photograph, threshold=score + 0.01)[0]["label"] == "normal"


def test_masks_can_be_left_out_and_heatmaps_asked_for(ask):
    assert "mask" not in ask("segmenter", text(FILES["png"]), mask=False)[0]
    assert "heatmap" not in ask("detector", text(FILES["png"]))[0]
    answer = ask("detector", text(FILES["png"]), heatmap=True)[0]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(answer["heatmap"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (32, 32)
    assert picture.max() == 255
    assert answer["heatmap_highest"] > answer["score"]


@pytest.mark.parametrize("kind", ["segmenter", "detector"])
def test_pixels_and_bytes_are_taken_too(ask, kind):
    pixels = scene(40, 50)
    png = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    answers = ask(kind, text(png), png, pixels, pixels.tolist())
    assert len({answer["score"] for answer in answers}) == 1


@pytest.mark.parametrize("kind", ["segmenter", "detector"])
def test_bad_photographs_of_a_batch_are_named_by_their_row(ask, kind):
    good, large = text(FILES["png"]), text(cv2.imencode(".png", np.zeros((600, 500), np.uint8))[1].tobytes())
    with pytest.raises(MlflowException) as caught:
        ask(kind, good, "cGxhaW4gdGV4dA==", good, large)
    said = caught.value.message
    assert "row 1: not an image" in said
    assert "row 3: 500 × 600 px are more than the 250,000 px allowed" in said
    assert "row 0" not in said
    assert caught.value.get_http_status_code() == 400


@pytest.mark.parametrize("kind", ["segmenter", "detector"])
def test_requests_that_make_no_sense_are_refused(ask, kind, served_segmenter):
    good = text(FILES["png"])
    for params, said in (({"threshold": float("nan")}, "threshold is nan"), ({"threshold": "much"}, "threshold")):
        with pytest.raises(MlflowException, match=said) as caught:
            ask(kind, good, **params)
        assert caught.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="257 images are more than the 256"):
        ask(kind, *[good] * 257)
    with pytest.raises(MlflowException, match="image"):
        served_segmenter.predict(pd.DataFrame({"picture": [good]}))


@pytest.mark.parametrize("kind", ["segmenter", "detector"])
def test_what_goes_wrong_otherwise_is_no_traceback(ask, kind, monkeypatch, served_segmenter, served_detector, caplog):
    model = {"segmenter": served_segmenter, "detector": served_detector}[kind].unwrap_python_model()
    monkeypatch.setattr(type(model._answers), "answer", lambda *_, **__: 1 / 0)
    with pytest.raises(MlflowException, match="the model could not answer: the log says why") as caught:
        ask(kind, text(FILES["png"]))
    assert caught.value.get_http_status_code() == 500
    assert "ZeroDivisionError" in caplog.text


def test_a_share_is_no_threshold_above_one(ask):
    with pytest.raises(MlflowException, match=r"threshold is 1\.5; it must be a number from 0 to 1"):
        ask("segmenter", text(FILES["png"]), threshold=1.5)


def test_a_served_model_can_be_given_other_limits_and_another_way_to_compute(registry):
    compute = {"precision": "bf16-mixed", "batch_size": 2}
    changes = {"max_pixels": 5000, "least_pixels": 100_000, "compute": compute}
    model = mlflow.pyfunc.load_model("models:/segmentation/1", model_config=changes)
    (answer,) = model.predict(pd.DataFrame({"image": [text(FILES["png"])]}))
    assert (answer["label"], answer["preprocessing"]["precision"]) == ("normal", "bf16-mixed")
    with pytest.raises(MlflowException, match="more than the 5,000 px allowed"):
        model.predict(pd.DataFrame({"image": [text(FILES["jpg"])]}))
