"""New pictures of cracks, simulated on photographs of sound concrete."""

from crack_pipeline.pipelines.synthesis_simulated.pipeline import create_pipeline

__all__ = ["create_pipeline"]
