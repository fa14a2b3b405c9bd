"""Which network and which training find cracks best: a search that may be interrupted at any moment."""

from crack_pipeline.pipelines.segmentation_tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
