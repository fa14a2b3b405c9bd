"""Exported models beside the served ones, and without torch."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from crack_pipeline.imaging.decoding import Undecodable, decode
from crack_pipeline.models.any_size import AnySize
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.models.weights import Weights
from crack_pipeline.serving import exporting, run_lengths
from crack_pipeline.serving.answering import DetectorAnswers, SegmenterAnswers
from crack_pipeline.serving.exporting import OPSET, export
from crack_pipeline.serving.onnx import KEY, OnnxModel, main
from crack_pipeline.serving.photographs import Limits
from served_pictures import files, text

FILES = files()
LIMITS = Limits(max_pixels=250_000, max_bytes=300_000, min_side=16)
ABOUT = {"model": "walls", "version": "3"}


def written(folder, exported):
    path = folder / "model.onnx"
    path.write_bytes(exported.model)
    return path


@pytest.fixture(scope="module")
def exported_segmenter(segmenter):
    return export(segmenter, "segmenter", LIMITS, **ABOUT, least_pixels=20)


@pytest.fixture(scope="module")
def exported_detector(detector):
    return export(detector, "detector", LIMITS, **ABOUT)


def test_a_photograph_of_any_format_gets_the_mask_of_the_served_model(exported_segmenter, segmenter, plan):
    ours, theirs = OnnxModel(exported_segmenter.model, threads=1), SegmenterAnswers(segmenter, plan, 20)
    cracked = set()
    for data in FILES.values():
        found, expected = ours.answer(text(data)), theirs.answer(decode(data, mode="rgb"))
        masks = [run_lengths.decode(answer.pop("mask")) for answer in (found, expected)]
        assert (masks[0] != masks[1]).mean() < 1e-3
        assert found == ABOUT | {"preprocessing": theirs.preprocessing} | {
            name: pytest.approx(value, abs=1e-3 * max(1, expected["crack_pixels"])) if name != "label" else value
            for name, value in expected.items()
        }
        cracked.add(expected["crack_pixels"])
    assert len(cracked) > 3


def test_a_photograph_of_any_format_gets_the_score_of_the_served_model(exported_detector, detector, plan):
    ours, theirs = OnnxModel(exported_detector.model, threads=1), DetectorAnswers(detector, plan)
    for data in FILES.values():
        pixels = decode(data, mode="grey")
        found = ours.answer(data, 0.03, heatmap=True)
        (expected,) = theirs.answer([theirs.prepare(pixels)], 0.03, show=True)
        shown = [
            cv2.imdecode(np.frombuffer(base64.b64decode(answer.pop("heatmap")), np.uint8), cv2.IMREAD_GRAYSCALE)
            for answer in (found, expected)
        ]
        assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1
        said = {name: pytest.approx(expected.pop(name), rel=1e-4) for name in ("score", "heatmap_highest")}
        size = {"width": pixels.shape[1], "height": pixels.shape[0]}
        assert found == expected | said | size | ABOUT | {"preprocessing": theirs.preprocessing}


@pytest.mark.parametrize(
    "score",
    [
        {"kind": "mse"},
        {"kind": "ridge", "width": 5.0},
    ],
)
def test_every_score_of_an_autoencoder_is_in_the_graph(detector, plan, score):
    other = Weights(detector.tensors, detector.facts | {"score": score})
    model = OnnxModel(export(other, "detector", LIMITS, model="x").model, threads=1)
    answers = DetectorAnswers(other, plan)
    pictures = [answers.prepare(decode(data, mode="grey")) for data in FILES.values()]
    found, _ = model.scores(np.stack(pictures)[..., None])
    expected = [answer["score"] for answer in answers.answer(pictures)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert len(set(expected)) > 3


def test_a_detector_of_simulated_cracks_tells_probabilities(plan):
    options = {"name": "unet", "levels": 3, "base_channels": 4, "in_channels": 1, "prior": 0.4}
    torch.manual_seed(1)
    image = {"size": 36, "mode": "grey", "resize": True}  # no multiple of the network's stride
    score = {"kind": "likeliest", "pixels": 100}
    facts = {"detector": "simulated", "network": options, "image": image, "name": "likeliest_100px", "score": score}
    weights = Weights(create_segmenter(options).state_dict(), facts | {"thresholds": {"likeliest_100px": 0.0}})
    model = OnnxModel(export(weights, "detector", LIMITS, model="x").model, threads=1)
    answers = DetectorAnswers(weights, plan)
    for data in FILES.values():
        (expected,) = answers.answer([answers.prepare(decode(data, mode="grey"))])
        found = model.answer(data)
        assert found["score"] == pytest.approx(expected["score"], rel=1e-4, abs=1e-5)
        assert found["probability"] == pytest.approx(expected["probability"], rel=1e-4)


def test_the_graph_takes_pictures_of_any_size_by_itself(exported_segmenter, segmenter):
    session = onnxruntime.InferenceSession(exported_segmenter.model, providers=["CPUExecutionProvider"])
    network = create_segmenter(segmenter.facts["network"])
    network.load_state_dict(segmenter.tensors)
    for shape in [(1, 1, 1), (3, 7, 50), (2, 64, 33), (1, 5, 128)]:
        pictures = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        (found,) = session.run(None, {"images": pictures})
        with torch.inference_mode():
            expected = network.eval()(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255)[:, 0].sigmoid()
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_file_says_what_it_is(exported_segmenter, segmenter, tmp_path):
    model = onnx.load_from_string(exported_segmenter.model)
    onnx.checker.check_model(model, full_check=True)
    assert [one.version for one in model.opset_import if one.domain == ""] == [OPSET]
    (told,) = [json.loads(entry.value) for entry in model.metadata_props if entry.key == KEY]
    assert told["fingerprint"] == segmenter.fingerprint()
    assert (told["kind"], told["model"], told["version"], told["opset"]) == ("segmenter", "walls", "3", OPSET)
    assert (told["threshold"], told["mode"], told["least_pixels"]) == (segmenter.facts["threshold"], "rgb", 20)
    assert told["cut"] == {"size": 96, "halo": 8, "blend": 8, "stride": 2}
    assert set(told["classes"]) == {"crack", "normal"}


def test_it_answers_where_there_is_no_torch(exported_segmenter, tmp_path):
    (tmp_path / "wall.jpg").write_bytes(FILES["jpg"])
    (tmp_path / "broken.png").write_bytes(FILES["png"][:100])
    code = (
        "import sys\n"
        "for name in ('torch', 'mlflow', 'kedro', 'pandas', 'scipy', 'skimage'): sys.modules[name] = None\n"
        "from crack_pipeline.serving.onnx import main\n"
        "sys.exit(main(['model.onnx', 'wall.jpg', 'broken.png', 'none.png', '--threads', '1']))\n"
    )
    written(tmp_path, exported_segmenter)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    answer, *errors = (json.loads(line) for line in done.stdout.splitlines())
    assert answer == {"path": "wall.jpg"} | OnnxModel(exported_segmenter.model, threads=1).answer(FILES["jpg"])
    assert [error["path"] for error in errors] == ["broken.png", "none.png"]
    assert errors[0]["error"].startswith("truncated or damaged")
    assert errors[1]["error"].startswith("cannot be read")


def test_what_is_no_exported_model_is_one_message(tmp_path, exported_detector, capsys, monkeypatch):
    photograph = tmp_path / "wall.jpg"
    photograph.write_bytes(FILES["jpg"])

    def said(path):
        with pytest.raises(SystemExit):
            main([str(path), str(photograph)])
        return capsys.readouterr().err.splitlines()[-1]

    assert "no ONNX model that can be read" in said(photograph)
    assert "no ONNX model that can be read" in said(tmp_path / "nowhere.onnx")
    model = onnx.load_from_string(exported_detector.model)
    del model.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())
    assert "it was not exported by this project" in said(tmp_path / "foreign.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'crack-pipeline[onnx]'" in said(written(tmp_path, exported_detector))


def test_what_makes_no_sense_is_refused(exported_segmenter, exported_detector):
    model = OnnxModel(exported_segmenter.model, threads=1)
    for threshold in (float("nan"), -0.1, 1.5):
        with pytest.raises(ValueError, match="it must be a number from 0 to 1"):
            model.answer(FILES["jpg"], threshold)
    with pytest.raises(Undecodable, match="allowed"):
        model.answer(np.zeros((600, 500), np.uint8))
    graph = onnx.load_from_string(exported_detector.model)
    (facts,) = graph.metadata_props
    facts.value = exported_detector.facts.model_copy(update={"resize": False}).model_dump_json()
    with pytest.raises(Undecodable, match="this model takes 32 × 32 px alone"):
        OnnxModel(graph.SerializeToString(), threads=1).answer(FILES["jpg"])


class OfOneSize(AnySize):
    """Does with sizes what a graph for all sizes cannot hold."""

    def logits(self, images):
        return images[:, :1] * int(images.shape[-1])


class Stubborn(AnySize):
    """Computes something else while it is traced."""

    def logits(self, images):
        return images[:, :1] * (2.0 if torch.compiler.is_exporting() else 1.0)


@pytest.mark.parametrize(
    ("network", "said"),
    [(OfOneSize, "this network cannot be exported: "), (Stubborn, "its graph gives other probabilities than torch")],
)
def test_a_network_whose_graph_would_not_do_the_same_is_refused(segmenter, monkeypatch, network, said):
    monkeypatch.setattr(exporting, "rebuild", lambda weights: network(3, 4, [0.5], [0.5], reach=4))
    with pytest.raises(ValueError, match=said):
        export(segmenter, "segmenter", LIMITS, model="x")


def test_without_onnx_it_says_what_to_install(segmenter, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'crack-pipeline\[onnx\]'"):
        export(segmenter, "segmenter", LIMITS, model="x")
