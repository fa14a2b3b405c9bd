"""Renders a data set of concrete photographs, so that everything runs with nothing downloaded."""

from crack_pipeline.pipelines.sample.pipeline import create_pipeline

__all__ = ["create_pipeline"]
