"""Finds, outlines and measures cracks in photographs of concrete."""

import os
import warnings

__version__ = "0.1.0"

# Nothing calls home unless the user says so.
for _variable in ("MLFLOW_DISABLE_TELEMETRY", "KEDRO_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_variable, "true")

# What the packages underneath have to mend, not the user.
warnings.filterwarnings("ignore", message=r"register_new_resolver\(\) is deprecated")
warnings.filterwarnings("ignore", message="One or more dataset names contain '.' characters")
