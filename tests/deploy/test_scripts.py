"""What all schedulers call: the run, its settings, its lock, and who is told."""

import os
import shutil
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


@pytest.mark.parametrize("model", ["--help", "../segmentation", "a b", "Segmentation"])
def test_what_is_no_name_of_a_model_is_refused(place, retrain, model):
    done = retrain(model)
    assert done.returncode == 2
    assert f"'{model}' is no model; name a model, such as" in done.stderr
    assert not (place / "calls").exists()
    assert not (place / "project/data").exists()


def test_it_finds_its_project_from_anywhere(place, surroundings):
    """By a link, in a folder whose name begins with a dash and has a space, and where CDPATH leads elsewhere."""
    odd = place / "-x y"
    shutil.move(place / "project", odd)
    (place / "bin").mkdir()
    (place / "bin/retrain").symlink_to(odd / "deploy/retrain.sh")
    (odd / "conf").mkdir()
    for command, folder in (["../bin/retrain"], odd), (["sh", "--", "-x y/deploy/retrain.sh"], place):
        more = {"CDPATH": f"{place}:{odd}", "CRACK_PIPELINE_SETTINGS": "../settings" if folder == odd else "settings"}
        command = [*command, "segmentation"]
        done = subprocess.run(command, cwd=folder, env=surroundings | more, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (place / "settings/common.env").write_text("")
    assert [call[0] for call in calls(place)] == [str(odd)] * 2


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_settings_that_cannot_be_read_are_not_passed_over(place, retrain):
    (place / "settings/segmentation.env").write_text("RETRAINING_PARAMS=raw_root=/a\n")
    (place / "settings/segmentation.env").chmod(0)
    done = retrain("segmentation")
    assert done.returncode == 1
    assert "segmentation.env cannot be read" in done.stderr
    assert not (place / "calls").exists()


def test_a_lock_that_cannot_be_had_is_not_taken_for_one_that_is_held(place, retrain):
    flock = place / "project/.venv/bin/flock"
    flock.write_text("#!/bin/sh\necho 'flock: 9: No locks available' >&2\nexit 71\n")
    flock.chmod(0o755)
    done = retrain("segmentation")
    assert done.returncode == 1
    assert "cannot be locked" in done.stderr and "already" not in done.stderr
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


def test_somebody_is_told_with_what_the_settings_say(place, surroundings):
    (place / "settings/common.env").write_text(f"""WHERE={place}/told\nNOTIFY='cat > "$WHERE"'\n""")
    command = [str(place / "project/deploy/notify.sh"), "no luck"]
    subprocess.run(command, env=surroundings, input="one\n", text=True, check=True)
    assert (place / "told").read_text().startswith("no luck (")


@pytest.mark.parametrize("broken", ["RETRAINING_PARAMS=raw_root=/a b\n", "NOTIFY='cat\n", "X=$NOWHERE\nfalse\n"])
def test_somebody_is_told_where_the_settings_are_what_is_wrong(place, surroundings, broken):
    (place / "settings/common.env").write_text(broken)
    (place / "bin").mkdir()
    (place / "bin/logger").write_text(f'#!/bin/sh\ncat > "{place}/told"\n')
    (place / "bin/logger").chmod(0o755)
    command = [str(place / "project/deploy/notify.sh"), "no luck"]
    found = surroundings | {"PATH": f"{place}/bin:{surroundings['PATH']}"}
    done = subprocess.run(command, env=found, input="one\n", text=True, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (place / "told").read_text().startswith("no luck (")


def test_the_settings_that_are_shown_can_be_read(place, retrain):
    shown = (place / "project/deploy/settings.env").read_text()
    lines = [line.removeprefix("#") for line in shown.splitlines() if "=" in line and not line.startswith("# ")]
    assert len(lines) >= 5
    (place / "settings/segmentation.env").write_text("\n".join(lines) + "\n")
    assert retrain("segmentation").returncode == 0
    assert calls(place)[0][1].endswith("--params raw_root=/srv/photographs,dataset=pairs")
    assert calls(place)[0][2] == "server"
