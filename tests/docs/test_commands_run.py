"""Every command in the documentation, run: ``pytest -m slow tests/docs``.

All in one copy of the project, in an order in which what is needed has been made before: models are trained, then
used. Folders are those of the fixture ``world``, sizes those of ``conf/test``. What cannot be run here is listed in
``documented.RECIPES`` with the reason.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import warm_start
from documented import LARGE_OPTIONS, SMALL, Command, commands, filled, pages
from servers import free_port, running

pytestmark = pytest.mark.slow

SECONDS = 1800
TRAINED = ("sample", "ingestion", "__default__", "anomaly", "segmentation", "label_free", "weak_segmentation")
LAST = ("promotion", "rollback")
SIZES = re.compile(
    r".*\.(steps|steps_per_epoch|epochs|least_steps|batch_size|crop|validation_crops|base_channels|max_channels|number|most|"
    r"rounds|pairs)=.*|sample\..*"
)
"""Lengths and sizes that a command names: they stay those of conf/test. That they are valid says test_commands.py."""

ADDED = {
    "network.name=encoder": ",segmentation.tiles.size=160",
    "--env paper --pipeline weak_segmentation": ",weak_segmentation.tiles.size=160",
    "inpainting.cracks.segmenter=models:": ",inpainting.tiles.size=160",
}
"""What a command needs beside its own parameters, since conf/test is made for a smaller network."""


def rank(command):
    """Give the place of a command among all: what makes something comes before what uses it."""
    if command.recipe.how != "kedro":
        return 3 + ("run", "benchmark", "serve").index(command.recipe.how), 0
    name = command.option("--pipeline", "__default__")
    if name in TRAINED:
        return 0, TRAINED.index(name)
    return (2, LAST.index(name)) if name in LAST else (1, 0)


def chosen():
    """All commands that are run, each once."""
    found = {}
    for page in pages():
        for command in commands(page):
            if command.recipe and command.recipe.how in ("kedro", "run", "benchmark", "serve"):
                same = filled(smaller(command.text), Path("/")) if command.recipe.how == "kedro" else command.text
                found.setdefault(re.sub(r" -p \d+|(?<=models:/)\w+(?=@champion)", "", same), command)
    told = {_script(one) for one in found.values() if one.page.startswith("docs/")} - {""}
    found = {text: one for text, one in found.items() if one.page.startswith("docs/") or _script(one) not in told}
    return sorted(found.values(), key=rank)


def _script(command):
    """Name the benchmark that a command runs; of the table of all benchmarks only those count that no page runs."""
    found = re.search(r"benchmarks/(\w+\.py)", command.text)
    return found[1] if found else ""


def smaller(text):
    """Leave out of a line of kedro run what would make it long."""
    head, given, params = text.partition(" --params ")
    params, blank, tail = params.partition(" ")
    kept = [param for param in re.split(r",(?=[a-z_])", params) if not SIZES.fullmatch(param)]
    more = "".join(added for part, added in ADDED.items() if part in text)
    return head + (given + ",".join(kept) + more if kept else "") + blank + tail


@pytest.mark.parametrize("command", chosen(), ids=str)
def test_it_runs(command, world):
    prepare(command, world)
    how = {"kedro": run_kedro, "run": run_line, "benchmark": run_benchmark, "serve": serve_and_ask}[command.recipe.how]
    ended, said = how(command, world)
    assert ended == 0, f"{command.text}\n{said[-3000:]}"


def run_kedro(command, world):
    words = Command("", 0, filled(smaller(command.text), world.data)).words
    start = words.index("kedro")
    more = dict(word.split("=", 1) for word in words[:start])
    done = warm_start.run_module(
        *words[start:], folder=world.project, surroundings=world.surroundings | more, seconds=SECONDS
    )
    return done.returncode, done.stdout


def run_line(command, world, **more):
    text = filled(command.text, world.data)
    tracked = {"MLFLOW_TRACKING_URI": f"sqlite:///{world.project}/mlflow.db"}
    done = subprocess.run(
        ["bash", "-euc", text],
        cwd=world.project,
        env=world.surroundings | tracked | more,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def run_benchmark(command, world):
    segmenter = world.newest("data/06_models/*/segmenter.safetensors/*/segmenter.safetensors")
    if segmenter:
        shutil.copy(segmenter, world.data / "segmenter.safetensors")
    words = [word for word in command.text.split(" ") if word not in LARGE_OPTIONS]
    return run_line(
        Command(command.page, command.line, f"{' '.join(words)} {SMALL[_script(command)]}".strip()),
        world,
        CRACK_PIPELINE_DATA=str(world.data),
    )


def serve_and_ask(command, world):
    """Start a server, ask it what the page asks, and stop it."""
    port = free_port()
    text = re.sub(r" (-p|--port) \d+", "", command.text)
    text += f" -h 127.0.0.1 -p {port}" if "mlflow" in text.split() else f" --host 127.0.0.1 --port {port}"
    tracked = {"MLFLOW_TRACKING_URI": f"sqlite:///{world.project}/mlflow.db"}
    server = ["bash", "-c", f"exec env {text}"]
    with running(server, port, world.surroundings | tracked, world.project / "server.log"):
        page = next(page for page in pages() if str(page).endswith(command.page))
        for asking in commands(page):
            if asking.recipe and asking.recipe.how == "ask":
                line = re.sub(r"localhost:\d+", f"127.0.0.1:{port}", asking.text)
                line = line.replace("curl ", "curl --fail-with-body --silent --show-error ", 1)
                ended, said = run_line(Command(asking.page, asking.line, line), world)
                if ended:
                    return ended, f"{line}\n{said}"
    return 0, ""


def prepare(command, world):
    """Bring about what a reader would have before: champions, a model of these photographs, an exported one."""
    words = shlex.split(command.text.replace("<", "").replace(">", "")) if "rollback" in command.text else ()
    if "rollback" in words or "@champion" in command.text or "=champion" in command.text:
        _two_champions(world.project)
    if "--pipeline retraining" in command.text:  # of a model that learned from the photographs under this root
        model = command.option("--pipeline").removeprefix("retraining").removeprefix("_") or "anomaly"
        trained = re.sub(r"--pipeline \w+", f"--pipeline {model}", command.text)
        ended, said = run_kedro(Command(command.page, command.line, trained), world)
        assert ended == 0, f"{trained}\n{said[-3000:]}"
    if "serving.onnx" in command.text:
        shutil.copy(world.newest("data/06_models/*_export/model.onnx/*/model.onnx"), world.project / "model.onnx")


def _two_champions(project):
    """Let version 2 of the segmenter be the champion, and version 1 the one before."""
    import mlflow

    from crack_pipeline.datasets import ModelRegistryDataset
    from crack_pipeline.datasets.model_registry import read
    from crack_pipeline.evaluation.promotion import Decision, Evidence

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    try:
        registry = ModelRegistryDataset(filepath=str(project))
        for version in (1, 2):
            champion = registry.load().standing("segmentation").champion
            if champion != version:
                fingerprint = read("segmentation", version).whole_fingerprint()
                evidence = Evidence(promoted=True, reason="for the next command")
                about = {
                    "model": "segmentation",
                    "challenger": version,
                    "champion": champion,
                    "fingerprint": fingerprint,
                }
                registry.save(Decision.model_validate(about | {"evidence": evidence}))
    finally:
        mlflow.set_tracking_uri(before)


def test_lengths_are_left_out_and_the_rest_stays():
    assert smaller("kedro run --params raw_root=/x,a.training.steps=9,a.b=2,a.steps_per_epoch=1") == (
        "kedro run --params raw_root=/x,a.b=2"
    )
    assert smaller("kedro run --params a.steps=9") == "kedro run"
