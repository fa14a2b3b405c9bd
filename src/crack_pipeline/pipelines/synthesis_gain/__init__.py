"""What synthetic cracks add to a segmenter that learns from few real ones, and from many."""

from crack_pipeline.pipelines.synthesis_gain.pipeline import create_pipeline

__all__ = ["create_pipeline"]
