"""What every command waits for before it begins."""

import subprocess
import sys

LOOK = "import sys, crack_pipeline.pipeline_registry as p; p.register_pipelines(); print('lightning' in sys.modules)"


def test_only_training_waits_for_lightning():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nothing_is_said_that_only_the_packages_underneath_could_mend(make_project, kedro):
    done = kedro(make_project(), "run", "--pipeline", "anomal")
    assert "Failed to find the pipeline" in done.stdout
    assert "Warning" not in done.stdout
