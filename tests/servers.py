"""Servers on this machine, and a way to one that ends, for tests of what needs them."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 180
_VERSIONS = Path("/usr/lib/postgresql")


def postgresql() -> Path | None:
    """Find the programs of PostgreSQL: where Debian puts them, or on the path."""
    places = sorted(_VERSIONS.glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    places += [Path(found).parent] if found else []
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def database(programs: Path) -> Iterator[str]:
    """Start PostgreSQL with a cluster of its own; gives the URI for MLflow."""
    user = _unprivileged()
    # Not below pytest's folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="crack_pipeline_postgresql_") as scratch:
        folder, port = Path(scratch), free_port()
        if user:
            shutil.chown(folder, user)

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), *arguments]
            done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
            assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

        cluster = str(folder / "data")
        run("initdb", "-D", cluster, "-U", "mlflow", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        # Its output must not be a pipe, which the server would hold open.
        start = [str(programs / "pg_ctl"), "-D", cluster, "-w", "-l", str(folder / "log"), "-o", options, "start"]
        subprocess.run(start, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=SECONDS, check=True)
        try:
            yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", cluster, "-m", "immediate", "-w", "stop")


@contextmanager
def served(arguments: Sequence[str], port: int, surroundings: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run ``python -m ...`` until the end of the context, which begins when the port takes connections."""
    with running([sys.executable, "-m", *arguments], port, surroundings, log):
        yield


@contextmanager
def champion_served(model: str, registry: str, surroundings: Mapping[str, str], log: Path) -> Iterator[str]:
    """Let MLflow serve the champion of a model; gives the address that answers."""
    port = free_port()
    wanted = ["-m", f"models:/{model}@champion", "--env-manager", "local", "-p", str(port), "-h", "127.0.0.1"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{surroundings['PATH']}"
    env = {**surroundings, "MLFLOW_TRACKING_URI": registry, "PATH": path}
    with served(["mlflow", "models", "serve", *wanted], port, env, log):
        yield f"http://127.0.0.1:{port}/invocations"


@contextmanager
def running(command: Sequence[str], port: int, surroundings: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a server until the end of the context, which begins when its port takes connections."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(surroundings),
            cwd=log.parent,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + SECONDS
            while not _answers(port):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait(SECONDS)


class Way:
    """A TCP connection to a server, which ends for good when certain bytes have been sent along it.

    Parameters
    ----------
    port
        Of the server.
    until
        The bytes.
    """

    def __init__(self, port: int, until: bytes) -> None:
        way = self
        self.ended = threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", port)) as server:
                    answers = threading.Thread(target=_copy, args=(server, self.request), daemon=True)
                    answers.start()
                    while (sent := self.request.recv(2**16)) and not way.ended.is_set():
                        server.sendall(sent)
                        if until in sent:
                            answers.join(1)  # what was sent is still answered
                            way.close()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while received := source.recv(2**16):
            target.sendall(received)
        # A server closes what is idle, and its client has to know.
        target.shutdown(socket.SHUT_RDWR)


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _unprivileged() -> str | None:
    """Name the user whom PostgreSQL is to run as: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
