"""From photographs of a structure to a report: foreground, cracks, their sizes, and the surface repaired."""

from crack_pipeline.pipelines.inspection.pipeline import create_pipeline

__all__ = ["create_pipeline"]
