import warnings

import pytest

from crack_pipeline.pipelines import retraining
from crack_pipeline.pipelines.promotion.parameters import MODELS


@pytest.mark.parametrize("model", MODELS)
def test_each_model_has_a_retraining_whose_steps_come_in_order(model):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Namespace .* is interrupted")
        pipeline = retraining.create_pipelines()["retraining" if model == "anomaly" else f"retraining_{model}"]
    names = [node.name for node in pipeline.nodes]
    training = {"anomaly": "train_detector", "weak_segmentation": "learn_start"}.get(model, "train_segmenter")
    steps = [
        f"retraining_{model}.look",
        f"retraining_{model}.finish_earlier",
        f"retraining_{model}.go_on",
        f"{model}.list_photographs",
        f"{model}.drift.judge",
        f"{model}.drift.permit",
        f"{model}.{training}",
        f"{model}.describe_model",
        "promotion.aim",
        "promotion.decide",
        "promotion.record_decision",
        "promotion.report",
        "promotion.insist",
        "promotion.remember",
    ]
    assert [name for name in names if name in steps] == steps
    before = {node.name for node in pipeline.to_nodes("promotion.remember").nodes}
    assert set(steps) <= before
    assert f"{model}.raw" not in pipeline.datasets()  # nothing is read before it is known that something is new


def test_the_record_is_written_last():
    pipeline = retraining.create_pipeline("anomaly")
    after = pipeline.from_nodes("promotion.remember").nodes
    assert [node.name for node in after] == ["promotion.remember"]
    written = [node.name for node in pipeline.nodes if any("known" in name for name in node.outputs)]
    assert written == [
        "retraining_anomaly.look",
        "anomaly.drift.note_unusable",
        "anomaly.remember_roles",
        "promotion.remember",
    ]
