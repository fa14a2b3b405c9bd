import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Served:
    """A file of the server, and how it behaves."""

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    """Bytes after which an answer breaks off, one an answer, until there are none left."""
    ranges: bool = True
    status: int = 200
    location: str = ""
    length: bool = True


class Server(ThreadingHTTPServer):
    """Files by path over HTTP on the loopback interface, and the ranges that were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        served = self.server.files.get(self.path)
        if served is None or served.status >= 400:
            self.send_error(served.status if served else 404)
            return
        if served.location:
            self.send_response(302)
            self.send_header("Location", served.location)
            self._finish(served, b"", 0)
            return
        content, whole = served.content, len(served.content)
        if asked and served.ranges:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= whole:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{whole}")
                self._finish(served, b"", 0)
                return
            content = content[first:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        self._finish(served, content, served.breaks.pop(0) if served.breaks else len(content))

    def _finish(self, served: Served, content: bytes, sent: int) -> None:
        if served.length:
            self.send_header("Content-Length", str(len(content)))
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:sent])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> type[Served]:
    """What a server's ``files`` hold."""
    return Served


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()
