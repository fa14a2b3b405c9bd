"""New pictures of cracks, from a generator that has learned what they look like."""

from crack_pipeline.pipelines.synthesis.pipeline import create_pipeline

__all__ = ["create_pipeline"]
