"""From parameters to a folder of photographs."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines.sample.nodes import draw_examples, render_photographs


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Create the pipeline that renders photographs of concrete, with masks of their cracks.

    Parameters
    ----------
    **kwargs
        Not used; Kedro may hand some over.

    Returns
    -------
    kedro.pipeline.Pipeline
        Needs nothing but ``params:sample``; gives ``sample_photographs`` and ``sample_examples``.
    """
    return Pipeline(
        [
            Node(render_photographs, "params:sample", "sample_photographs", name="render_photographs"),
            Node(draw_examples, "params:sample", "sample_examples", name="draw_examples"),
        ]
    )
