"""What wrong labels cost a segmenter that learns from labels."""

from crack_pipeline.pipelines.label_noise.pipeline import create_pipeline

__all__ = ["create_pipeline"]
