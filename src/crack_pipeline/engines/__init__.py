"""Who does the work, and in which pieces: this process, or the workers of a Ray cluster."""

from crack_pipeline.engines.engine import Engine, Job, engine_of

__all__ = ["Engine", "Job", "engine_of"]
