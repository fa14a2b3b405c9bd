"""What all schedulers call: the run, its settings, its lock, and who is told."""

import subprocess
import time

import pytest

from crack_pipeline.pipeline_registry import register_pipelines
from crack_pipeline.pipelines.promotion.parameters import MODELS


def calls(place):
    return [line.split("|") for line in (place / "calls").read_text().splitlines()]


@pytest.fixture
def held(place, surroundings):
    """A retraining of the segmenter that goes on."""
    command = [str(place / "project/deploy/retrain.sh"), "segmentation"]
    process = subprocess.Popen(command, env=surroundings | {"HOLD": "60"}, stdout=subprocess.DEVNULL)
    ends = time.monotonic() + 30
    while not (place / "calls").exists() and time.monotonic() < ends:
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()


def test_a_run_of_kedro_with_the_settings_of_its_model(place, retrain):
    (place / "settings/common.env").write_text("KEDRO_ENV=server\nEXTRA=common\n")
    (place / "settings/segmentation.env").write_text('RETRAINING_PARAMS="raw_root=/a b,dataset=pairs"\nEXTRA="of it"\n')
    done = retrain("segmentation", "--env", "test")
    assert done.returncode == 0, done.stderr
    asked = "run --pipeline retraining_segmentation --params raw_root=/a b,dataset=pairs --env test"
    assert calls(place) == [[str(place / "project"), asked, "server", "", "of it"]]
    assert "retraining segmentation: kedro run --pipeline retraining_segmentation" in done.stdout


def test_settings_of_another_model_are_left_alone(place, retrain):
    (place / "settings/segmentation.env").write_text("EXTRA=another\n")
    assert retrain("anomaly").returncode == 0
    assert calls(place) == [[str(place / "project"), "run --pipeline retraining", "", "", ""]]


def test_its_pipelines_exist(place, retrain):
    pipelines = register_pipelines()
    if "retraining" not in pipelines:
        pytest.skip("there is no retraining yet")
    for model in MODELS:
        retrain(model)
    assert len(calls(place)) == len(MODELS)
    assert {call[1].split()[2] for call in calls(place)} <= set(pipelines)


@pytest.mark.parametrize("status", [1, 3])
def test_it_ends_as_kedro_ends(retrain, status):
    assert retrain("segmentation", STATUS=str(status)).returncode == status


def test_a_model_must_be_named(place, retrain):
    done = retrain()
    assert done.returncode != 0
    assert "name a model" in done.stderr
    assert not (place / "calls").exists()


def test_the_same_model_is_never_retrained_twice_at_once(held, place, retrain):
    done = retrain("segmentation")
    assert done.returncode == 75
    assert "segmentation is being retrained already" in done.stderr
    assert len(calls(place)) == 1
    assert retrain("anomaly").returncode == 0


def test_a_killed_one_leaves_no_lock(held, retrain):
    held.kill()
    held.wait()
    assert retrain("segmentation").returncode == 0


def test_a_signal_reaches_kedro_itself(held, place):
    held.terminate()
    assert held.wait(timeout=30) == -15


def test_somebody_is_told(place, surroundings):
    (place / "settings/common.env").write_text(f"""NOTIFY='{{ echo "$TITLE"; cat; }} > {place}/told'\n""")
    command = [str(place / "project/deploy/notify.sh"), "no luck"]
    subprocess.run(command, env=surroundings, input="one\ntwo\n", text=True, check=True)
    title, first, *rest = (place / "told").read_text().splitlines()
    assert title == "no luck"
    assert first.startswith("no luck (")
    assert rest == ["one", "two"]


def test_the_settings_that_are_shown_can_be_read(place, retrain):
    shown = (place / "project/deploy/settings.env").read_text()
    lines = [line.removeprefix("#") for line in shown.splitlines() if "=" in line and not line.startswith("# ")]
    assert len(lines) >= 5
    (place / "settings/segmentation.env").write_text("\n".join(lines) + "\n")
    assert retrain("segmentation").returncode == 0
    assert calls(place)[0][1].endswith("--params raw_root=/srv/photographs,dataset=pairs")
    assert calls(place)[0][2] == "server"
