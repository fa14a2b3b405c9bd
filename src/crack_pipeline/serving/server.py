"""Serve a registered model over HTTP as MLflow does, and refuse what MLflow's server takes in whole or breaks on.

python -m crack_pipeline.serving.server models:/segmentation@champion --port 5001

Before MLflow's own server sees a request, its body is read up to a limit and for a limited time, and it must say that
it is JSON: tables in other formats can be far larger than their files. What is refused gets an error in the form of
MLflow's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlflow.exceptions import MlflowException

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

MAX_BODY = 64 * 2**20
BODY_SECONDS = 60.0
MAX_CONNECTIONS = 64


class Guarded:
    """An ASGI application that takes JSON, behind limits.

    Parameters
    ----------
    app
        What answers to requests that pass.
    max_body
        Bytes of a body; a longer one gets 413, if it says its length before it is read.
    body_seconds
        Time that a client has to send a body; after it, it gets 408.
    """

    def __init__(self, app: _App, max_body: int = MAX_BODY, body_seconds: float = BODY_SECONDS) -> None:
        self._app, self._max_body, self._body_seconds = app, max_body, body_seconds

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer to a request, or let the application do so."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            await _refuse(send, 415, "only JSON is read here: say Content-Type: application/json")
            return
        # What it says of its length the server has checked.
        if int(headers.get(b"content-length", 0)) > self._max_body:
            await self._too_large(send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    if len(body) > self._max_body:
                        await self._too_large(send)
                        return
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            await _refuse(send, 408, f"the body was not there after {self._body_seconds:g} s")
            return
        whole: _Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}
        del body

        async def once() -> _Message:
            nonlocal whole
            message, whole = whole, None
            return await receive() if message is None else message

        held: list[_Message] = []

        async def unless_failed(message: _Message) -> None:
            if held or message.get("status") == 500:
                held.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, once, unless_failed)
        except RecursionError:
            held.clear()
            await _refuse(send, 400, "the body is nested too deeply")
        finally:
            for message in held:
                await send(message)

    async def _too_large(self, send: _Send) -> None:
        await _refuse(send, 413, f"the body has more than the {self._max_body:,} bytes allowed")


async def _refuse(send: _Send, status: int, message: str) -> None:
    body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(arguments: list[str] | None = None) -> int:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(prog="python -m crack_pipeline.serving.server", description=__doc__)
    parser.add_argument("model", help="such as models:/anomaly@champion or models:/segmentation/3")
    parser.add_argument("--host", default="127.0.0.1", help="of the network to listen on; nobody is asked who they are")
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--max-body", type=float, default=MAX_BODY / 2**20, help="MiB that a request may have")
    parser.add_argument("--body-seconds", type=float, default=BODY_SECONDS, help="that a client has to send it")
    parser.add_argument("--max-connections", type=int, default=MAX_CONNECTIONS, help="at a time; more of them get 503")
    parser.add_argument("--tracking-uri", default="sqlite:///mlflow.db", help="unless MLFLOW_TRACKING_URI says another")
    given = parser.parse_args(arguments)
    os.environ.setdefault("MLFLOW_TRACKING_URI", given.tracking_uri)
    import uvicorn
    from mlflow.pyfunc import scoring_server

    try:
        model = scoring_server.load_model_with_mlflow_config(given.model)
    except (MlflowException, OSError) as error:
        parser.error(f"{given.model} cannot be loaded: {' '.join(str(error).split())}")
    app = Guarded(scoring_server.init(model), int(given.max_body * 2**20), given.body_seconds)
    uvicorn.run(app, host=given.host, port=given.port, limit_concurrency=given.max_connections, log_level="warning")
    return 0


if __name__ == "__main__":
    # A version answers with the code that it was registered with, not with what is installed here.
    for module in [module for module in sys.modules if module.partition(".")[0] == "crack_pipeline"]:
        del sys.modules[module]
    sys.exit(main())
