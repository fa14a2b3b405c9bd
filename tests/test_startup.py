"""What every command waits for before it begins."""

import subprocess
import sys

SLOW = ("lightning", "optuna", "scipy.stats", "sklearn", "torch._dynamo", "torchvision")
LOOK = "import sys, crack_pipeline.pipeline_registry as p; p.register_pipelines(); print(*sys.modules)"


def test_only_what_needs_it_waits_for_what_takes_seconds_to_import():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert not set(SLOW).intersection(done.stdout.split())


def test_nothing_is_said_that_only_the_packages_underneath_could_mend(make_project, kedro):
    done = kedro(make_project(), "run", "--pipeline", "anomal")
    assert "Failed to find the pipeline" in done.stdout
    assert "Warning" not in done.stdout
