"""A trained model as an ONNX file that carries its preparation, checked against torch."""

from crack_pipeline.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
