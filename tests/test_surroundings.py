import http.server
import os
import threading
from pathlib import Path

import pytest
import yaml
from kedro.config import OmegaConfigLoader

from crack_pipeline import errors, surroundings
from crack_pipeline.surroundings import MissingVariableError, Servers, UnreachableError

CONF = Path(__file__).parents[1] / "conf"
NAME = "CRACK_PIPELINE_STORAGE"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    """A folder without credentials, and none of the variables."""
    for name in (NAME, "MLFLOW_TRACKING_URI", *surroundings._PATIENCE, "AWS_TEST"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards, whoever sets it
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def credentials(tmp_path):
    """Write the file of credentials."""

    def write(content):
        (tmp_path / "conf/local").mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf/local/credentials.yml").write_text(yaml.safe_dump(content))

    return write


@pytest.fixture
def answering():
    """Start servers that answer with a status, or not at all; gives the address."""
    servers, release = [], threading.Event()

    def start(status):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                if status is None:
                    release.wait(10)
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"the database is gone")

            def log_message(self, *_):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    release.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_variable_comes_from_the_environment_or_from_the_file_of_credentials(credentials, monkeypatch):
    with pytest.raises(MissingVariableError, match=rf"{NAME} is not set: .*conf/local/credentials\.yml"):
        surroundings.variable(NAME)
    credentials({"other": {"key": "x"}, "environment": {NAME: "s3://file", "AWS_TEST": 5}})
    assert surroundings.variable(NAME) == "s3://file"
    assert surroundings.variable("AWS_TEST") == "5"
    monkeypatch.setenv(NAME, "s3://environment")
    assert surroundings.variable(NAME) == "s3://environment"


def test_a_key_is_what_is_written_and_never_shown(credentials, tmp_path):
    credentials({})
    file = tmp_path / "conf/local/credentials.yml"
    file.write_text(f"environment:\n  {NAME}: s3://file\n  AWS_TEST: 0123\n")
    surroundings.variable(NAME)
    assert os.environ["AWS_TEST"] == "0123"
    file.write_text(f"environment:\n  {NAME}: s3://file\n  AWS_TEST: hush: hush\n")
    with pytest.raises(MissingVariableError, match=r"credentials\.yml, line 3: this is no YAML") as error:
        surroundings.variable(NAME)
    assert "hush" not in str(error.value)


def test_no_password_is_told():
    failed = ValueError("API request to https://somebody:p@ss@example.org/api/2.0?a=b@c failed with exception")
    assert surroundings.reason(failed) == "API request to https://example.org/api/2.0?a=b@c failed with exception"


@pytest.mark.parametrize("block", [["a"], {"A": None}, {"A": {"b": "c"}}])
def test_a_block_of_something_else_is_refused(credentials, block):
    credentials({"environment": block})
    with pytest.raises(MissingVariableError, match="must hold names and values of environment variables"):
        surroundings.variable(NAME)


def server_configuration():
    return OmegaConfigLoader(
        str(CONF),
        env="server",
        base_env="base",
        default_run_env="local",
        custom_resolvers={"project": lambda: "/project", "environment": surroundings.variable},
        merge_strategy={"mlflow": "soft"},
        config_patterns={"mlflow": ["mlflow*"]},
    )


def test_the_environment_for_servers_reads_where_they_are(monkeypatch):
    monkeypatch.setenv(NAME, "s3://bucket/x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking")
    config = server_configuration()
    assert surroundings.find(config) == Servers("s3://bucket/x", "https://tracking")
    experiment = config["mlflow"]["tracking"]["experiment"]
    assert experiment == {"name": "crack_pipeline", "create_experiment_kwargs": {"artifact_location": None}}
    catalog = config["catalog"]
    assert catalog["anomaly.detector"]["filepath"] == "s3://bucket/x/06_models/anomaly/detector.safetensors"
    assert catalog["{pipeline}.raw"]["filepath"] == "s3://bucket/x/01_raw/sample"


def test_what_is_not_set_is_one_message(monkeypatch, capsys):
    for variables in ({}, {NAME: "s3://bucket/x"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Exception) as error:
            surroundings.find(server_configuration())
        errors.report(error.type, error.value, None)
        missing = "MLFLOW_TRACKING_URI" if variables else NAME
        assert capsys.readouterr().err.startswith(f"\nMissingVariableError: {missing} is not set: ")


def test_only_what_one_machine_needs_lies_outside_the_storage():
    local = {
        "data/01_raw/sample",
        "data/02_intermediate/{pipeline}/group_blocks",
        "data/03_primary/{pipeline}/image_parts",
        "data/04_feature/inspection/embeddings",
        "data/06_models/anomaly/checkpoints",
        "data/06_models/locks",
        "data/06_models/pretrained",
        "data/06_models/pretrained/segment_anything",
        "data/06_models/segmentation_tuning/checkpoints",
        "data/06_models/segmentation_tuning/study.db",
        "data/06_models/{pipeline}/checkpoints",
    }
    found = set()
    for file in (CONF / "base/catalog").glob("*.yml"):
        for entry in yaml.safe_load(file.read_text()).values():
            for place in (entry, entry.get("dataset") or {}):
                path = place.get("filepath") or place.get("path") if isinstance(place, dict) else None
                if path and not path.startswith(("${globals:storage}/", "${runtime_params:raw_root")):
                    found.add(path)
    assert found == local


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(500, "it answers 500 .*the database is gone"), (401, "it does not know this user")],
)
def test_a_server_that_complains_is_one_message(answering, status, complaint):
    uri = answering(status)
    with pytest.raises(UnreachableError, match=rf"the tracking server {uri} \(MLFLOW_TRACKING_URI\) .*{complaint}"):
        surroundings.check_tracking(uri)


def test_a_server_that_is_not_there_or_hangs_is_given_up_soon(answering, monkeypatch):
    monkeypatch.setattr(surroundings, "SECONDS", 0.3)
    with pytest.raises(UnreachableError, match=r"cannot be used: it does not answer"):
        surroundings.check_tracking(answering(None))
    monkeypatch.undo()
    with pytest.raises(UnreachableError, match="connection refused: is it running"):
        surroundings.check_tracking("http://127.0.0.1:1")


def test_passwords_are_not_shown():
    with pytest.raises(UnreachableError) as error:
        surroundings.check_tracking("http://user:secret@127.0.0.1:1")
    assert "http://127.0.0.1:1" in str(error.value) and "secret" not in str(error.value)


def test_mlflow_is_less_patient_where_the_user_says_nothing(answering, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    surroundings.check_tracking(answering(200))
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"


def test_a_disk_is_not_asked(tmp_path):
    surroundings.check_tracking(f"sqlite:///{tmp_path}/mlflow.db")
    surroundings.check_storage("data")
    assert list(tmp_path.iterdir()) == []


def test_a_client_that_is_not_installed_is_named(monkeypatch):
    def missing(*_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(surroundings.fsspec.core, "url_to_fs", missing)
    with pytest.raises(UnreachableError, match=r"Install s3fs to access S3; pip install 'crack-pipeline\[server\]'"):
        surroundings.check_storage("s3://bucket")
