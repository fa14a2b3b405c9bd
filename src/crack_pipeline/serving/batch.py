"""Ask a registered model about a folder of photographs: an answer a line.

python -m crack_pipeline.serving.batch models:/segmentation@champion /photographs > answers.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, load_model

from crack_pipeline.imaging.decoding import SUFFIXES


def ask_about(model: PyFuncModel, folder: Path, params: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Ask about every photograph under a folder, one after the other, in the order of their paths.

    Parameters
    ----------
    model
        A detector or a segmenter, as ``mlflow.pyfunc.load_model`` gives it.
    folder
        Searched to any depth for files whose suffix is that of a picture.
    params
        As of a request: ``threshold``, and ``mask`` or ``heatmap``.

    Yields
    ------
    dict
        ``path`` within the folder, and the answer; or ``path`` and ``error``: why there is none.
    """
    for path in sorted(found for found in folder.rglob("*") if found.suffix.lower() in SUFFIXES and found.is_file()):
        about = {"path": path.relative_to(folder).as_posix()}
        try:
            (answer,) = model.predict(pd.DataFrame({"image": [path.read_bytes()]}), params=params)
        except OSError as error:
            yield about | {"error": f"cannot be read: {error}"}
        except MlflowException as error:
            yield about | {"error": error.message.removeprefix("row 0: ")}
        else:
            yield about | answer


def main(arguments: list[str] | None = None) -> int:
    """Print the answers as JSON lines; gives 1 if a photograph got none."""
    parser = argparse.ArgumentParser(prog="python -m crack_pipeline.serving.batch", description=__doc__)
    parser.add_argument("model", help="such as models:/anomaly@champion or models:/segmentation/3")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threshold", type=float, help="instead of the model's own")
    parser.add_argument("--no-mask", action="store_true", help="of a segmenter: leave the masks out")
    parser.add_argument("--heatmap", action="store_true", help="of a detector: show where its score looks")
    parser.add_argument("--tracking-uri", default="sqlite:///mlflow.db", help="unless MLFLOW_TRACKING_URI says another")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is no folder")
    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ["MLFLOW_TRACKING_URI"] = given.tracking_uri
    try:
        model = load_model(given.model)
    except (MlflowException, OSError, ValueError) as error:
        parser.error(f"{given.model} cannot be loaded: {' '.join(str(error).split())}")
    wishes = {"threshold": given.threshold, "mask": False if given.no_mask else None, "heatmap": given.heatmap or None}
    failed = False
    for answer in ask_about(model, given.folder, {name: wish for name, wish in wishes.items() if wish is not None}):
        print(json.dumps(answer), flush=True)
        failed |= "error" in answer
    return int(failed)


if __name__ == "__main__":
    # A version answers with the code that it was registered with, not with what is installed here.
    for module in [module for module in sys.modules if module.partition(".")[0] == "crack_pipeline"]:
        del sys.modules[module]
    sys.exit(main())
