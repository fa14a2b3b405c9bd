"""What processes of warm_start.py begin with: imported, once, by the process that they are forked from."""

import gc
import inspect
from contextlib import suppress
from importlib import import_module

_IMPORTED = (
    "crack_pipeline.hooks",
    "crack_pipeline.pipeline_registry",
    "crack_pipeline.serving.pyfunc",
    "crack_pipeline.training.fit",
    "cv2",
    "git",
    "IPython",
    "kedro.framework.cli.cli",
    "kedro.framework.cli.project",
    "kedro.framework.session",
    "kedro_datasets.json",
    "kedro_datasets.matplotlib",
    "kedro_datasets.pandas",
    "kedro_datasets.partitions",
    "kedro_datasets.text",
    "kedro_mlflow.framework.cli.cli",
    "kedro_mlflow.framework.hooks.mlflow_hook",
    "kedro_telemetry.plugin",
    "kedro_viz.integrations.kedro.run_hooks",
    "kedro_viz.launchers.cli.main",
    "lightning.pytorch",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.pytorch",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandas",
    "pyarrow.dataset",
    "pydantic",
    "pytorch_lightning",
    "s3fs",
    "scipy.stats",
    "sklearn.metrics",
    "sqlalchemy.dialects.sqlite",
    "torch._dynamo",
    "torchvision",
)

for _name in _IMPORTED:
    with suppress(ImportError):
        import_module(_name)

# Both look through everything that is installed or imported and keep what they find: Kedro asks for the first in every
# command, MLflow for the second in every training.
inspect.stack()
with suppress(ImportError, AttributeError):
    import_module("mlflow.utils.requirements_utils")._init_modules_to_packages_map()

gc.freeze()  # no collection of garbage need look through it again
