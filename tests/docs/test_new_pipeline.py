"""What the page on the architecture tells to write is a pipeline that runs."""

from __future__ import annotations

import re
import subprocess
import sys

import pandas as pd
import pytest

from documented import ROOT, blocks

PAGE = ROOT / "docs/architecture.md"
SOURCE = "src/crack_pipeline/pipeline_registry.py"


@pytest.fixture(scope="module")
def written(make_project):
    """Follow the page in a copy of the project."""
    project = make_project()
    for _, about, _, lines in blocks(PAGE):
        title = re.fullmatch(r'title="(.+)"', about)
        if title and title[1].startswith("in "):
            registry = project / SOURCE
            text = registry.read_text().replace("    anomaly,\n", "    anomaly,\n    brightness,\n", 1)
            registry.write_text(text.replace('        "sample":', "\n".join(lines) + '\n        "sample":', 1))
        elif title:
            path = project / title[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return project


def test_it_runs_as_the_page_says(written, kedro, sample):
    params = f"raw_root={sample},brightness.limits.darkest=90"
    done = kedro(written, "run", "--pipeline", "brightness", "--params", params, own_code=True)
    assert done.returncode == 0, done.stdout[-3000:]
    (table,) = (written / "data/08_reporting/brightness/judged.csv").glob("*/judged.csv")
    judged = pd.read_csv(table)
    assert len(judged) == len([path for path in sample.glob("*/*.jpg")])
    assert judged["verdict"].isin(["good", "too dark", "too bright"]).all() and (judged["verdict"] == "good").any()
    assert "photographs are good" in done.stdout


def test_a_wrong_value_is_refused_in_one_line(written, kedro):
    params = "brightness.limits.darkest=300"
    done = kedro(written, "run", "--pipeline", "brightness", "--params", params, own_code=True)
    assert done.returncode and "brightness.limits.darkest: Input should be less than or equal to 255" in done.stdout


def test_its_code_is_in_the_style_of_the_project(written):
    command = [sys.executable, "-m", "ruff", "check", str(written / "src/crack_pipeline/pipelines/brightness")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
