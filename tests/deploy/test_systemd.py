"""Units, by systemd's own tools; with the project in another place, since those look for what a unit starts."""

import re
import shutil
import subprocess

import pytest

if shutil.which("systemd-analyze") is None:
    pytest.skip("there is no systemd-analyze", allow_module_level=True)

SERVICE, TIMER, FAILED = (
    f"crack-pipeline-{name}" for name in ("retraining@.service", "retraining@.timer", "failed@.service")
)


@pytest.fixture
def units(place):
    """The units as they are installed, the project in a folder of the test."""
    folder = place / "units"
    shutil.copytree(place / "project/deploy/systemd", folder)
    (place / "project/docs").mkdir()
    for file in (path for path in folder.rglob("*") if path.is_file()):
        file.write_text(file.read_text().replace("/opt/crack-pipeline", str(place / "project")))
    return folder


def analyze(*arguments, folder):
    surroundings = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:", "LC_ALL": "C"}
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("unit", [SERVICE, TIMER, FAILED])
def test_systemd_finds_nothing_wrong(units, unit):
    name = unit.replace("@", "@segmentation")
    done = analyze("verify", "--recursive-errors=yes", name, folder=units)
    ours = [line for line in done.stderr.splitlines() if "crack-pipeline" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_it_would_find_what_is_wrong(units):
    file = units / SERVICE
    text = file.read_text().replace("deploy/retrain.sh", "deploy/nothing.sh")
    file.write_text(text.replace("Nice=10", "Nice=many"))
    found = analyze("verify", SERVICE.replace("@", "@segmentation"), folder=units).stderr
    assert "nothing.sh is not executable" in found
    assert "many" in found


def test_limits_are_read_with_the_service(units):
    assert f"{SERVICE}.d" in {path.name for path in units.iterdir() if path.is_dir()}
    limits = units / f"{SERVICE}.d/limits.conf"
    limits.write_text(limits.read_text().replace("MemoryMax=", "MemoryMax=much"))
    assert "much85%" in analyze("verify", SERVICE.replace("@", "@segmentation"), folder=units).stderr


def test_it_comes_once_a_month(units):
    when = re.search(r"^OnCalendar=(.+)$", (units / TIMER).read_text(), re.MULTILINE)[1]
    done = analyze("calendar", when, "--base-time=2026-01-15", "--iterations=3", folder=units)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", done.stdout) == [
        "2026-02-01 03:00",
        "2026-03-01 03:00",
        "2026-04-01 03:00",
    ]


def test_the_service_is_shut_in(units):
    done = analyze("security", "--offline=true", "--threshold=25", str(units / SERVICE), folder=units)
    assert done.returncode == 0, done.stdout[-600:]


def test_a_failure_starts_what_tells_of_it(units):
    assert "OnFailure=crack-pipeline-failed@%n.service" in (units / SERVICE).read_text()
    text = (units / FAILED).read_text()
    assert "deploy/notify.sh" in text
    # A mailer that takes the rights of its group to write to its queue must be able to.
    assert "NoNewPrivileges" not in text
