"""The table of cron: by cron's own check, and its line as cron calls it."""

import re
import shutil
import subprocess
from datetime import date

import pytest

TABLE = "project/deploy/cron/crack-pipeline"


def check(table):
    return subprocess.run(["crontab", "-n", str(table)], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def line(place, surroundings):
    """Call the line that cron would call, with the project and its logs in folders of the test."""

    def call(**more):
        variables, commands = {}, []
        for text in (place / TABLE).read_text().splitlines():
            if setting := re.fullmatch(r"(\w+)=(.*)", text):
                variables[setting[1]] = setting[2]
            elif text and not text.startswith("#"):
                commands.append(text.split(maxsplit=5)[5])
        assert len(commands) == 1
        variables |= {"PROJECT": str(place / "project"), "LOGS": str(place / "logs")}
        # Everything from a bare % on would be the command's input.
        assert not re.search(r"(?<!\\)%", commands[0])
        command = commands[0].replace("\\%", "%")
        done = subprocess.run(
            [variables["SHELL"], "-c", command],
            env=surroundings | variables | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        [log] = (place / "logs").iterdir()
        told = place / "told"
        return done, log, told.read_text() if told.exists() else ""

    return call


@pytest.mark.skipif(shutil.which("crontab") is None, reason="there is no crontab (Debian: cron)")
def test_cron_accepts_it(place):
    done = check(place / TABLE)
    if "invalid option" in done.stderr:
        pytest.skip("this crontab cannot check without installing")
    assert done.returncode == 0, done.stderr
    broken = place / "broken"
    broken.write_text((place / TABLE).read_text().replace("0 3 1 * *", "0 33 1 * *"))
    assert "bad hour" in check(broken).stderr


def test_it_is_the_first_of_every_month(place):
    [when] = re.findall(r"^[\d*].*", (place / TABLE).read_text(), re.MULTILINE)
    assert when.split()[:5] == ["0", "3", "1", "*", "*"]


def test_what_is_printed_goes_to_a_log_with_its_date(place, line):
    done, log, told = line()
    assert (done.returncode, done.stdout, done.stderr, told) == (0, "", "", "")
    assert log.name == f"segmentation-{date.today():%F}.log"
    assert "retraining segmentation" in log.read_text()
    assert "run --pipeline retraining_segmentation" in (place / "calls").read_text()


def test_a_failure_is_told_with_the_end_of_the_log(line):
    _, _, told = line(STATUS="1")
    assert told.startswith("retraining segmentation failed (")
    assert "kedro run --pipeline retraining_segmentation" in told


def test_what_takes_too_long_is_ended(place, line):
    file = place / TABLE
    file.write_text(file.read_text().replace(" 24h ", " 1s "))
    _, _, told = line(HOLD="60")
    assert told.startswith("retraining segmentation failed")
