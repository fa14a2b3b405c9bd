"""Who does the work, and in which pieces: this process, or the workers of a Ray cluster."""

from crack_pipeline.engines.engine import Divisible, Engine, Job, Lost, engine_of

__all__ = ["Divisible", "Engine", "Job", "Lost", "engine_of"]
