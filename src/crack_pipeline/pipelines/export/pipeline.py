"""Export a trained model to ONNX, after it has been compared with torch on photographs."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines.export.nodes import accept, compare, export_detector, export_segmenter, summarise
from crack_pipeline.pipelines.ingestion.nodes import list_new_photographs
from crack_pipeline.pipelines.promotion.parameters import DETECTOR

_CHECK, _READING, _REPORT = "params:export", "params:reading", "params:report"
_LAYOUT = ("params:dataset", "params:presets", _READING)


def create_pipeline(model: str, **_: Any) -> Pipeline:
    """Take a trained model and photographs; give the model as an ONNX file, and a table of how far it is from torch.

    Parameters
    ----------
    model
        The pipeline that trains it.
    """
    is_detector = model == DETECTOR
    make = export_detector if is_detector else export_segmenter
    made_of = ["trained", _READING] if is_detector else ["trained", _READING, _REPORT]
    nodes = [
        Node(make, made_of, "candidate", name="export_model"),
        Node(
            list_new_photographs,
            ["raw", *_LAYOUT],
            ["photographs", "rejected"],
            name="list_photographs",
        ),
        Node(
            compare,
            ["candidate", "trained", "raw", "photographs", _CHECK, _READING],
            "agreement",
            name="compare_with_torch",
        ),
        Node(accept, ["candidate", "agreement", _CHECK], "onnx_model", name="accept"),
        Node(summarise, ["onnx_model", "agreement"], "summary", name="summarise"),
    ]
    parameters = {shared: shared for shared in (_CHECK, *_LAYOUT)}
    if not is_detector:
        parameters[_REPORT] = f"params:{model}.report"
    in_use = f"{model}.{'detector' if is_detector else 'segmenter'}_in_use"
    return Pipeline(nodes, namespace=f"{model}_export", inputs={"trained": in_use}, parameters=parameters)
