"""Project settings; https://docs.kedro.org/en/stable/configure/configuration_basics/."""

import warnings
from pathlib import Path

from kedro.utils import find_kedro_project

with warnings.catch_warnings(record=True):  # MLflow's of a class there, which no filter reaches
    import kedro_mlflow.mlflow  # noqa: F401

from crack_pipeline import errors, surroundings
from crack_pipeline.hooks import ProjectHooks

errors.install()

# Kedro 1.7 prefers --pipelines; here, since packages imported above reset what is filtered.
warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")

HOOKS = (ProjectHooks(),)

CONFIG_LOADER_ARGS = {
    "custom_resolvers": {
        # ${project:} is the project's root, from whichever of its folders kedro is called
        "project": lambda: str(find_kedro_project(Path.cwd()) or Path.cwd()),
        # ${environment:NAME} is an environment variable that must be set
        "environment": surroundings.variable,
    },
    "base_env": "base",
    "default_run_env": "local",
    # An environment names only what differs
    "merge_strategy": {"parameters": "soft", "mlflow": "soft"},
    "config_patterns": {
        "catalog": ["catalog*", "catalog*/**", "**/catalog*"],
        "parameters": ["parameters*", "parameters*/**", "**/parameters*"],
        "mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"],
    },
}
