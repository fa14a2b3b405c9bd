"""What every command waits for before it begins."""

import subprocess
import sys

LOOK = "import sys, crack_pipeline.pipeline_registry as p; p.register_pipelines(); print('lightning' in sys.modules)"


def test_only_training_waits_for_lightning():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
