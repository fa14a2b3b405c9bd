import json

import pytest
from kedro.io import DatasetError
from onnx import TensorProto, helper

from crack_pipeline.datasets import OnnxDataset
from crack_pipeline.serving.exporting import Exported
from crack_pipeline.serving.onnx import KEY, Facts


@pytest.fixture
def exported():
    value = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1])
    same = helper.make_tensor_value_info("score", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["score"])], "same", [value], [same])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    about = {"model": "anomaly", "fingerprint": "f", "package": "0", "opset": 18, "score": "mse", "mode": "grey"}
    facts = Facts(kind="detector", threshold=0.5, classes={}, inputs={}, outputs={}, limits={}, **about)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, facts.model_dump_json()
    return Exported(model.SerializeToString(), facts)


def test_it_is_stored_with_what_it_says_of_itself(tmp_path, exported):
    dataset = OnnxDataset(filepath=str(tmp_path / "deeper/model.onnx"))
    assert not dataset.exists()
    dataset.save(exported)
    assert dataset.load() == exported
    assert json.loads((tmp_path / "deeper/model.json").read_text())["threshold"] == 0.5
    assert sorted(path.name for path in (tmp_path / "deeper").iterdir()) == ["model.json", "model.onnx"]


def test_what_is_damaged_is_named(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(DatasetError, match=r"model\.onnx: the model is no ONNX model"):
        OnnxDataset(filepath=str(path)).load()
