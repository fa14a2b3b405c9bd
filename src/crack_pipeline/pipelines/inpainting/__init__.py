"""Photographs as they would look without their cracks, and how well each way of filling does that."""

from crack_pipeline.pipelines.inpainting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
