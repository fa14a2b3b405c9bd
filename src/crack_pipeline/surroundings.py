"""The servers that a project uses: where they are, and whether they are there before anything begins."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import yaml
from kedro.utils import find_kedro_project
from omegaconf.errors import OmegaConfBaseException

CREDENTIALS = "credentials.yml"
BLOCK = "environment"
PROBE = ".reachable"
SECONDS = 20.0
"""After which a server that has not answered is taken for unreachable before a run begins."""

_LONGEST = 300
_NOTHING = ("", "~", "null")
_USER = re.compile(r"://[^/\s]*@")
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""Where nothing else is set: a request that the tracking server refuses is given up after 16 seconds, not 4 minutes."""


class MissingVariableError(Exception):
    """An environment variable that the configuration needs is not set."""


class UnreachableError(Exception):
    """A server cannot be used."""


class Servers(NamedTuple):
    """What a run uses: the root of what is shared, a path or a URL, and the URI of the tracking."""

    storage: str
    tracking: str


def variable(name: str) -> str:
    """Give an environment variable that must be set.

    Those that the block ``environment`` of ``conf/local/credentials.yml`` names are set before, where they are not:
    the clients of object stores and of MLflow read their own from there.

    Raises
    ------
    MissingVariableError
        If it is not set, or the block holds something else than names and values.
    """
    project = find_kedro_project(Path.cwd()) or Path.cwd()
    _export(project / "conf/local" / CREDENTIALS)
    value = os.environ.get(name)
    if not value:
        raise MissingVariableError(
            f"{name} is not set: set this environment variable, or write it to the block {BLOCK} of "
            f"conf/local/{CREDENTIALS} (docs/server.md)"
        )
    return value


def missing_variable(error: BaseException) -> MissingVariableError | None:
    """Find what OmegaConf has made an error of its own of; None if it is something else."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, MissingVariableError):
        inner = inner.__cause__ or inner.__context__
    return inner


def _export(file: Path) -> None:
    try:
        # Every value as it is written: 0123 is a part of a key, and no number
        content = yaml.load(file.read_text("utf-8"), yaml.BaseLoader) if file.is_file() else {}
    except yaml.MarkedYAMLError as error:  # whose own message would show the line, with what is secret in it
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise MissingVariableError(f"{file}{line}: this is no YAML: {error.problem}") from None
    found = content.get(BLOCK, {}) if isinstance(content, dict) else {}
    if not isinstance(found, dict) or any(not isinstance(value, str) or value in _NOTHING for value in found.values()):
        raise MissingVariableError(f"the block {BLOCK} of {file} must hold names and values of environment variables")
    for name, value in found.items():
        os.environ.setdefault(name, value)


def find(config: Any) -> Servers:
    """Read from Kedro's configuration which servers a run uses.

    Parameters
    ----------
    config
        Kedro's loader.

    Returns
    -------
    Servers
        Without a tracking server where only kedro-mlflow can read the configuration of it.

    Raises
    ------
    MissingVariableError
        If a variable is not set.
    """
    try:
        tracking = config["mlflow"].get("server", {}).get("mlflow_tracking_uri")
    except OmegaConfBaseException as error:
        if missing := missing_variable(error):
            raise missing from None
        tracking = None
    return Servers(str(config["globals"].get("storage", "")), str(tracking or ""))


def check_tracking(uri: str) -> None:
    """See whether an MLflow server answers, and this user may ask it; UnreachableError if not.

    Where nothing else is set, MLflow is made less patient for the rest of the process.

    Parameters
    ----------
    uri
        Of the server; nothing is done where it is none that is reached by HTTP.
    """
    if not is_server(uri):
        return
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    with _explained(f"the tracking server {without_password(uri)} (MLFLOW_TRACKING_URI) cannot be used"):
        in_time(lambda: ask_tracking(uri))


def ask_tracking(uri: str) -> None:
    """Ask an MLflow server once, without trying again; raises whatever goes wrong."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(
        get_default_host_creds(uri),
        "/api/2.0/mlflow/experiments/search",
        "POST",
        json={"max_results": 1},
        max_retries=0,
        timeout=SECONDS / 2,
        raise_on_status=False,
    )
    if answer.status_code == 401:
        raise UnreachableError("it does not know this user (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD)")
    if answer.status_code != 200:
        raise UnreachableError(f"it answers {answer.status_code} {answer.reason}: {answer.text}")


def check_storage(root: str) -> None:
    """See whether files can be written to an object store; UnreachableError if not, or its client is not installed.

    Parameters
    ----------
    root
        URL that everything is to be written below; nothing is done where it is none.
    """
    if "://" not in root:
        return
    with _explained(f"the storage {without_password(root)} (CRACK_PIPELINE_STORAGE) cannot be used"):
        filesystem, path = fsspec.core.url_to_fs(root)
        in_time(lambda: filesystem.pipe_file(f"{path.rstrip('/')}/{PROBE}", b"written by crack-pipeline"))


def is_server(uri: str) -> bool:
    """Whether a tracking URI is that of a server that is reached by HTTP."""
    return uri.startswith(("http://", "https://"))


def in_time(ask: Callable[[], Any]) -> None:
    """Wait for an answer, but not for ever: clients try again for minutes.

    Raises
    ------
    TimeoutError
        If there is none within 20 seconds.
    Exception
        What is raised meanwhile.
    """
    raised: list[BaseException] = []

    def call() -> None:
        try:
            ask()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        raise TimeoutError(f"it does not answer within {SECONDS:.0f} seconds")
    if raised:
        raise raised[0]


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UnreachableError(f"{what}: {error}; pip install 'crack-pipeline[server]' brings what S3 needs") from error
    except Exception as error:  # every client has errors of its own
        raise UnreachableError(f"{what}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """Say in one line what a client of a server complains of."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ConnectionRefusedError):
            return "connection refused: is it running?"
        if isinstance(found, ConnectionError) or type(found).__name__ == "ProtocolError":
            return "it breaks off the connection"
        if "Timeout" in type(found).__name__ and not isinstance(found, TimeoutError):
            return "it does not answer in time"
        found = found.__cause__ or found.__context__
    text = without_password(" ".join(str(error).split()) or type(error).__name__)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def without_password(text: str) -> str:
    """Leave out of addresses in a text whom they name before the host, and with what password.

    Examples
    --------
    >>> without_password("no answer from https://somebody:secret@example.org/a@b")
    'no answer from https://example.org/a@b'
    """
    return _USER.sub("://", text)
