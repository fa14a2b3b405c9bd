"""What `deploy/ray` holds: a script that starts nodes, and a cluster for Kubernetes."""

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "deploy/ray/start.sh"


@pytest.fixture
def start(tmp_path):
    """Run the script with a command ``ray`` that prints its arguments; gives code and what was printed."""
    (tmp_path / "bin").mkdir()
    ray = tmp_path / "bin/ray"
    ray.write_text('#!/bin/sh\necho "$RAY_AUTH_MODE: ray $*"\n')
    ray.chmod(0o755)
    surroundings = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def run(*arguments):
        done = subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env=surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return run


def test_a_head_makes_a_token_once_and_the_others_need_it(start, tmp_path):
    code, said = start("worker", "10.0.0.1:6379")
    assert code == 1
    assert "there is no token" in said
    code, said = start("head")
    assert code == 0
    assert said.splitlines()[-1] == "token: ray start --head --port=6379 --include-dashboard=false"
    token = tmp_path / ".ray/auth_token"
    made = token.read_text()
    assert re.fullmatch("[0-9a-f]{64}", made)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert start("head", "--num-gpus=4")[1] == (
        "token: ray start --head --port=6379 --include-dashboard=false --num-gpus=4\n"
    )
    assert token.read_text() == made
    assert start("worker", "10.0.0.1:6379")[1] == "token: ray start --address=10.0.0.1:6379\n"
    assert start("client", "10.0.0.1:6379")[1].endswith("--address=10.0.0.1:6379 --num-cpus=0 --num-gpus=0\n")


@pytest.mark.parametrize("arguments", [(), ("worker",), ("stop",)])
def test_other_words_are_answered_with_what_there_is(start, arguments):
    code, said = start(*arguments)
    assert code == 2
    assert "deploy/ray/start.sh head" in said


@pytest.fixture(scope="module")
def manifest():
    documents = list(yaml.safe_load_all((ROOT / "deploy/ray/kuberay.yaml").read_text()))
    return {document["kind"]: document for document in documents}


def pods(manifest):
    cluster = manifest["RayCluster"]["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups] + [manifest["Job"]["spec"]["template"]["spec"]]


def test_the_cluster_has_what_kuberay_needs_and_asks_for_a_token(manifest):
    assert manifest["RayCluster"]["apiVersion"] == "ray.io/v1"
    cluster = manifest["RayCluster"]["spec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["groupName"]
        assert 0 < group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    ours = manifest["Job"]["spec"]["template"]["spec"]["containers"][0]
    given = {variable["name"]: variable for variable in ours["env"]}
    assert given["RAY_AUTH_MODE"]["value"] == "token"
    secret = given["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": manifest["RayCluster"]["metadata"]["name"], "key": "auth_token"}
    assert f"{secret['name']}-head-svc:6379" in ours["args"][0]


def test_all_run_one_image_of_this_version_and_the_pinned_ray(manifest):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for pod in pods(manifest) for container in pod["containers"]}
    assert images == {f"registry.example/crack-pipeline-ray:{version}"}
    assert f"--tag {images.pop()} ." in (ROOT / "deploy/ray/kuberay.yaml").read_text()
    pinned = re.search(r"^ray==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert manifest["RayCluster"]["spec"]["rayVersion"] == pinned[1]


def test_all_share_the_data_and_mount_only_what_is_there(manifest):
    for pod in pods(manifest):
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            unprivileged = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == unprivileged
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounts) == volumes
            assert mounts["data"] == "/opt/crack-pipeline/data"
            assert mounts["shared-memory"] == "/dev/shm"
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_ray_knows_the_options(manifest):
    scripts = pytest.importorskip("ray.scripts.scripts")
    known = {option.removeprefix("--") for parameter in scripts.start.params for option in parameter.opts}
    cluster = manifest["RayCluster"]["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group["rayStartParams"]) <= known
        memory = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}["shared-memory"]
        assert memory["emptyDir"]["sizeLimit"] == "2Gi"
        assert int(group["rayStartParams"]["object-store-memory"]) < 2 * 2**30
        probed = group["template"]["spec"]["containers"][0]
        assert str(probed["readinessProbe"]["tcpSocket"]["port"]) == group["rayStartParams"]["node-manager-port"]


def test_the_job_waits_for_the_head_and_for_all_cores(manifest, tmp_path):
    asked = tmp_path / "asked"
    commands = {
        "ray": '[ "$1" = start ] || [ "$(grep -c "ray health-check" {asked})" -gt 1 ]',
        "python": '[ "$(grep -c "python.* 64 *$" {asked})" -gt 2 ]',
        "kedro": "true",
        "sleep": "true",
    }
    for name, does in commands.items():
        script = tmp_path / name
        script.write_text(
            f'#!/bin/sh\necho "{name} $*" | tr "\\n" " " >>{asked}; echo >>{asked}\n{does.format(asked=asked)}\n'
        )
        script.chmod(0o755)
    pod = manifest["Job"]["spec"]["template"]["spec"]["containers"][0]
    cores = {variable["name"]: variable.get("value") for variable in pod["env"]}["CORES"]
    workers = manifest["RayCluster"]["spec"]["workerGroupSpecs"]
    each = [int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]) for group in workers]
    assert int(cores) == sum(group["replicas"] * has for group, has in zip(workers, each, strict=True))
    done = subprocess.run(
        [*pod["command"], *pod["args"]],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "CORES": cores},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the head of the cluster is not there yet",
        "the workers are not all there yet",
        "the workers are not all there yet",
    ]
    assert [line.split()[:2] for line in asked.read_text().splitlines() if not line.startswith("sleep")][-1] == [
        "kedro",
        "run",
    ]
