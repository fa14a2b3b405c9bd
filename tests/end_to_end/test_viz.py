"""The static build of `kedro viz` after a run, read as files and opened in a real browser that reaches nothing else."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

LAYERS = ["raw", "intermediate", "primary", "models", "model_output", "reporting"]
SEGMENTATION = ("segmentation", "segmentation_predict", "segmentation_evaluate", "segmentation_tuning")
LABEL_FREE = ("label_free", "label_free_predict", "label_free_evaluate")
WEAK = ("weak_segmentation", "weak_segmentation_predict", "weak_segmentation_evaluate", "label_noise")
SYNTHESIS = ("synthesis", "synthesis_simulated", "synthesis_gain")
STRUCTURES = ("inspection", "inpainting")
LIFECYCLE = ("promotion", "rollback")
EXPORTS = ("anomaly_export", "segmentation_export", "label_free_export", "weak_segmentation_export")
RETRAINING = ("retraining", "retraining_segmentation", "retraining_label_free", "retraining_weak_segmentation")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ATTEMPTS = 3
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1600,1200",
    "--virtual-time-budget=20000",
    "--dump-dom",
)


@pytest.fixture(scope="module")
def build(finished_project, kedro):
    done = kedro(finished_project, "viz", "build", "--include-previews")
    folder = finished_project / "build"
    assert (folder / "api/main").exists(), done.stdout[-4000:]  # a build that fails exits with 0, too
    return folder


@pytest.fixture(scope="module")
def graph(build):
    return json.loads((build / "api/pipelines/anomaly").read_text())


@pytest.fixture(scope="module")
def shown(build, graph):
    """What Kedro-Viz tells about a node, by the node's name."""
    identifiers = {node["name"]: node["id"] for node in graph["nodes"]}
    return lambda name: json.loads((build / "api/nodes" / identifiers[name]).read_text())


@pytest.fixture(scope="module")
def address(build):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=build)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    """Give the elements of a page as a browser has drawn it, once a pattern is found in them."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser to open Kedro-Viz in: none of {', '.join(BROWSERS)} is installed")
    flags = (*FLAGS, "--no-sandbox") if os.geteuid() == 0 else FLAGS

    def drawn(query: str, pattern: str) -> str:
        elements = ""
        for _ in range(ATTEMPTS):  # the graph is laid out by a thread that the budget of time does not know of
            profile = f"--user-data-dir={tmp_path_factory.mktemp('browser')}"
            command = [browser, *flags, profile, f"{address}/?{query}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            elements = done.stdout
            if re.search(pattern, elements):
                return elements
        raise AssertionError(f"{pattern!r} is not in {address}/?{query}: {elements[-2000:]}")

    return drawn


def test_every_stored_dataset_has_a_layer_and_layers_are_drawn(graph):
    assert [layer for layer in graph["layers"] if layer in LAYERS] == LAYERS  # none where the layers had a cycle
    data = [node for node in graph["nodes"] if node["type"] == "data"]
    stored = [node for node in data if "memory" not in (node["dataset_type"] or "memory").lower()]
    assert len(stored) > 20
    assert {node["name"] for node in stored if node["layer"] not in LAYERS} == set()


@pytest.mark.parametrize(
    "pipeline",
    [
        "anomaly_predict",
        "anomaly_evaluate",
        "ingestion",
        "sample",
        *SEGMENTATION,
        *LABEL_FREE,
        *WEAK,
        *SYNTHESIS,
        *STRUCTURES,
        *EXPORTS,
        *RETRAINING,
    ],
)
def test_layers_of_the_other_pipelines_have_no_cycle(build, pipeline):
    assert json.loads((build / "api/pipelines" / pipeline).read_text())["layers"]


def test_metrics_can_be_seen(shown):
    metrics = shown("anomaly.metrics")
    assert metrics["preview_type"] == "JSONPreview"
    assert json.loads(metrics["preview"])["sets"]["external"]["roc_auc"] > 0
    assert "precision" in json.loads(shown("anomaly.plan")["preview"])


@pytest.mark.parametrize("name", ["roc", "score_histogram", "training_curves", "reconstructions", "misses"])
def test_figures_can_be_seen(shown, name):
    figure = shown(f"anomaly.{name}")
    assert figure["preview_type"] == "ImagePreview"
    assert base64.b64decode(figure["preview"]).startswith(b"\x89PNG")


def test_predictions_can_be_seen(shown):
    table = shown("anomaly.predictions_external")["preview"]
    assert table["columns"] == ["image_id", "path", "label", "score", "predicted"]
    assert 1 <= len(table["data"]) <= 20


def test_telemetry_is_declined(build, finished_project):
    assert (finished_project / ".telemetry").read_text().strip() == "consent: false"
    assert "heap" not in (build / "index.html").read_text().lower()


def test_browser_shows_the_nodes_of_anomaly(page, graph):
    elements = page("pid=anomaly&expandAllPipelines=true", r"pipeline-node__text[^>]*>train_detector<")
    drawn = set(re.findall(r'class="pipeline-node__text[^>]*>([^<]+)<', elements))
    tasks = {node["name"] for node in graph["nodes"] if node["type"] == "task"}
    assert {"list_photographs", "train_detector", "choose_score", "measure", "draw_roc"} <= tasks
    assert tasks <= drawn
    assert {"anomaly.raw", "anomaly.detector", "anomaly.metrics"} <= drawn
    assert set(LAYERS) <= set(re.findall(r'class="pipeline-layer-name[^>]*>([^<]+)<', elements))


def test_browser_shows_a_figure_and_metrics_of_a_chosen_node(page, graph):
    chosen = {node["name"]: f"pid=anomaly&expandAllPipelines=true&sid={node['id']}" for node in graph["nodes"]}
    assert page(chosen["anomaly.roc"], '<img[^>]*src="data:image/png;base64,iVBOR')
    assert page(chosen["anomaly.metrics"], "(?s)preview-json.*roc_auc")
