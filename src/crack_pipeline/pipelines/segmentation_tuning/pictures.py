"""Nodes that show what a search found, and the lines that end a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from crack_pipeline.evaluation import tuning_figures as figures
from crack_pipeline.evaluation.trials import TrialResult, as_text
from crack_pipeline.pipelines.segmentation_tuning.nodes import METRIC
from crack_pipeline.pipelines.segmentation_tuning.parameters import Search
from crack_pipeline.pipelines.segmentation_tuning.space import SearchSpace

VALUE = "Dice on validation crops"
_MOST_REASONS = 3
_ENOUGH = 15


def draw_importance(importance: Mapping[str, float], results: Sequence[TrialResult]) -> Figure:
    """Draw how much each field matters."""
    return figures.importances(importance, complete=sum(result.state == "complete" for result in results))


def draw_history(results: Sequence[TrialResult]) -> Figure:
    """Draw the value of every trial and the best so far."""
    return figures.history(results, value_name=VALUE)


def draw_slices(results: Sequence[TrialResult], space: SearchSpace) -> Figure:
    """Draw the value against each field that is varied."""
    return figures.slices(results, space.axes(), value_name=VALUE)


def summarise(results: Sequence[TrialResult], best: Mapping[str, Any], search: Search) -> str:
    """Say in a few lines what was found."""
    again = best["trials"]["interrupted"]
    counts = ", ".join(f"{n} {state}" for state, n in best["trials"].items() if n and state != "interrupted")
    lines = [f"trials of {search.steps:,} steps, on training and validation photographs only: {counts}"]
    lines += [f"interrupted and begun again: {again}"] if again else []
    failed = [result for result in results if result.state == "failed"]
    lines += [f"trial {result.number} failed: {result.reason}" for result in failed[:_MOST_REASONS]]
    if len(failed) > _MOST_REASONS:
        lines.append(f"{len(failed) - _MOST_REASONS} more failed; trials.csv says why")
    if best["trial"] is None:
        return "\n".join([*lines, "no trial is complete, so there is no best one"])
    lines += ["", f"the best is trial {best['trial']}: {VALUE} {best[METRIC]:.4f}"]
    width = max(map(len, best["parameters"]))
    for name, value in best["parameters"].items():
        text = f"{value:.4g}" if isinstance(value, float) else as_text(value)
        share = best["importance"].get(name)
        lines.append(f"  {name:<{width}}  {text}" + ("" if share is None else f"  (explains {share:.0%})"))
    complete = best["trials"]["complete"]
    if not best["importance"]:
        lines.append("too few trials are complete to say which of them matter")
    elif complete < _ENOUGH:
        lines.append(f"what each explains is hardly more than chance with {complete} complete trials")
    lines.append("to train with it: what best_parameters.yml says, in conf/local/parameters/segmentation.yml")
    return "\n".join(lines)
