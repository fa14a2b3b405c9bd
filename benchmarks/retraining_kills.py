"""Kill ``kedro run --pipeline retraining`` at random moments, run it again, and look at what is left.

python benchmarks/retraining_kills.py [--kills 20]

Before each kill new photographs arrive. A run that nobody kills tells how long each step takes; the moments are drawn
from its seconds, and met by its steps, so that the load of the machine does not move them.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import mlflow
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["OMP_NUM_THREADS"] = "1"

import warm_start
from crack_pipeline.datasets.model_registry import ModelRegistry, read
from served_pictures import files, text

ROOT = Path(__file__).parents[1]
MODEL, NEW = "anomaly", 3
_PATIENCE = 900
_STEP = re.compile(r"Completed node: (\S+)")
_FAST = "anomaly.report.examples=1,anomaly.vae.epochs=6"


class Left(NamedTuple):
    """What there was at a moment."""

    versions: int
    champion: int | None
    external: frozenset[str]
    """photo_id of every photograph that ever had the role external."""


def main() -> None:
    """Kill, run again, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        project = _make_project(Path(scratch) / "project")
        pool = _render(project, asked.kills)
        mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
        _run(project, "retraining")
        _arrive(project, pool)
        timeline = _timeline(_run(project, "retraining"))
        left = _look(project)
        print(
            f"a run that nobody kills: {timeline[-1][0]:.1f} s from its first step to its last, {len(timeline)} steps"
        )
        print(f"{'killed':>6} {'s':>5} {'in step':<38} {'versions':>8} {'champion':>8}  afterwards")
        rng = random.Random(asked.seed)
        for number in range(1, asked.kills + 1):
            _arrive(project, pool)
            moment = rng.uniform(0, timeline[-1][0])
            done = max((place for place, (at, _) in enumerate(timeline) if at <= moment), default=0)
            _run(project, "retraining", kill=_killer(done + 1, moment - timeline[done][0]))
            killed = _look(project)
            _check(killed, left)
            runs = [_run(project, "retraining")]
            after = _look(project)
            _check(after, left)
            assert after.versions == left.versions + 1, f"{after.versions - left.versions} versions of one retraining"
            assert _is_decided(after.versions), "the version has not been decided about"
            what = "decided about what had been trained" if killed.versions > left.versions else "trained"
            what = "nothing was left to do" if _said(runs[0], "nothing is trained") else what
            step = timeline[done + 1][1] if done + 1 < len(timeline) else "the end"
            champion = f"{killed.champion}→{after.champion}" if killed.champion != after.champion else after.champion
            print(f"{number:>6} {moment:>5.1f} {step:<38} {killed.versions:>8} {champion!s:>8}  {what}", flush=True)
            left = after
        print(
            f"killed {asked.kills} times: each time the champion could be loaded whole, nothing was trained twice, "
            f"every version was decided about, and none of {left.versions} versions has learned from one of "
            f"{len(left.external)} external photographs, or is chosen on it"
        )


def _look(project: Path) -> Left:
    client = mlflow.MlflowClient()
    found = client.search_model_versions(f"name='{MODEL}'")
    aliases = client.get_registered_model(MODEL).aliases if found else {}
    ids: set[str] = set()
    for name in ("partition", "known_roles"):
        path = project / f"data/03_primary/{MODEL}/{name}.parquet"
        roles = pd.read_parquet(path) if path.exists() else pd.DataFrame({"image_id": [], "role": []})
        ids |= set(roles.loc[roles["role"] == "external", "image_id"])
    champion = aliases.get("champion")
    return Left(len(found), None if champion is None else int(champion), frozenset(ids))


def _check(now: Left, before: Left) -> None:
    """Assert that the champion is whole, that old roles stay, and that nothing external was learned from."""
    assert now.champion is not None, "there is no champion"
    path = sys.path[:]
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    answer = model.predict(pd.DataFrame({"image": [text(files()["png"])]}))
    assert answer[0]["version"] == str(now.champion), "the champion does not answer"
    sys.path[:] = path  # to which MLflow has added the copy of the code that it serves
    assert before.external <= now.external, "an external photograph has got another role"
    for version in range(1, now.versions + 1):
        learned = _learned_from(version)
        assert learned and not learned & now.external, f"version {version} has learned from external photographs"


@cache
def _learned_from(version: int) -> frozenset[str]:
    return frozenset(read(MODEL, version).facts["learned_from"])


def _is_decided(version: int) -> bool:
    newest = ModelRegistry(Path(tempfile.gettempdir())).newest(MODEL)
    return newest is not None and newest.version == version and newest.decided


def _killer(steps: int, seconds: float) -> Callable[[str], bool]:
    """Say when: some seconds after so many steps."""
    reached: list[float] = []

    def now(log: str) -> bool:
        if not reached and len(_STEP.findall(log)) >= steps:
            reached.append(time.monotonic())
        return bool(reached) and time.monotonic() - reached[0] >= seconds

    return now


def _run(project: Path, name: str, *params: str, kill: Callable[[str], bool] | None = None) -> list[tuple[float, str]]:
    """Run a pipeline in a process of its own; give each line with the second it was seen in. It must end well."""
    log = project / "log.txt"
    log.write_text("")
    chosen = {**os.environ, "KEDRO_ENV": "test"}
    arguments = ("run", "--pipeline", name, "--params", ",".join([_FAST, *params]))
    process = warm_start._processes.Process(
        target=warm_start._run, args=("kedro", arguments, str(project), chosen, str(log), False)
    )
    process.start()
    lines: list[tuple[float, str]] = []
    deadline = time.monotonic() + _PATIENCE
    while process.is_alive():
        printed = log.read_text(errors="replace")
        seen = printed.splitlines()
        lines += [(time.monotonic(), line) for line in seen[len(lines) :]]
        if kill is not None and kill(printed):
            os.kill(process.pid or 0, signal.SIGKILL)
            break
        assert time.monotonic() < deadline, printed[-3000:]
        time.sleep(0.02)
    process.join()
    seen = log.read_text(errors="replace").splitlines()
    lines += [(time.monotonic(), line) for line in seen[len(lines) :]]
    if kill is None:
        assert process.exitcode == 0, "\n".join(seen[-40:])
    return lines


def _said(lines: list[tuple[float, str]], text: str) -> bool:
    return any(text in line for _, line in lines)


def _timeline(lines: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Give the second after the first step at which each step was done, and its name."""
    steps = [(at, found[1]) for at, line in lines if (found := _STEP.search(line))]
    return [(at - steps[0][0], name) for at, name in steps]


def _make_project(project: Path) -> Path:
    for name in ("conf", "src/crack_pipeline", "pyproject.toml", ".telemetry"):
        source, target = ROOT / name, project / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("local", "__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    (project / "conf/local").mkdir()
    return project


def _render(project: Path, kills: int) -> list[Path]:
    """Render the sample, and more photographs beside it that arrive later; give these."""
    more = (kills + 1) * NEW
    _run(project, "sample", f"sample.seed=7,sample.normal={more},sample.crack={more}")
    (project / "data/01_raw/sample").rename(project / "later")
    _run(project, "sample")
    return [file for folder in ("Negative", "Positive") for file in sorted((project / "later" / folder).iterdir())]


def _arrive(project: Path, pool: list[Path]) -> None:
    """Let a few of the photographs come, sound and cracked ones."""
    for place in [0, -1] * NEW:
        file = pool.pop(place)
        shutil.copy(file, project / "data/01_raw/sample" / file.parent.name / f"later_{file.name}")


if __name__ == "__main__":
    main()
