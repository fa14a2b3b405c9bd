"""Serve a registered model over HTTP at the addresses of MLflow's server, and refuse what that one takes or breaks on.

python -m crack_pipeline.serving.server models:/segmentation@champion --port 5001

A request is read up to a limit and for a limited time, must say that it is JSON, since tables in other formats can be
far larger than their files, and is read row by row. Errors have the form of MLflow's, and tell nothing of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from asyncio import BaseTransport, TimerHandle
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pandas as pd
import uvicorn
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server
from uvicorn.protocols.http.h11_impl import H11Protocol

from crack_pipeline.serving.requests import IMAGE, read_request

logger = logging.getLogger(__name__)

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

MAX_BODY = 64 * 2**20
BODY_SECONDS = 60.0
ANSWER_SECONDS = 60.0
MAX_CONNECTIONS = 64

_JSON = (b"application/json", b"application/json;charset=utf-8")


class Guarded:
    """An ASGI application that answers to JSON as MLflow's does, behind limits.

    Parameters
    ----------
    model
        What answers.
    max_body
        Bytes of a body; a longer one gets 413, if it says its length before it is read.
    body_seconds
        Time that a client has to send a body; after it, it gets 408.
    answer_seconds
        Time after which it gets 504, although what it asked for is computed to its end.
    """

    def __init__(
        self,
        model: PyFuncModel,
        max_body: int = MAX_BODY,
        body_seconds: float = BODY_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._model, self._max_body = model, max_body
        self._body_seconds, self._answer_seconds = body_seconds, answer_seconds
        schema = model.metadata.get_params_schema()
        self._known = [param.name for param in schema.params] if schema else []
        self._others: Any = scoring_server.init(model)

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer to a request; MLflow's application answers to those that ask for no prediction."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/invocations"):
            await self._others(scope, receive, send)
            return
        try:
            body = await self._read(scope["headers"], receive)
        except _Refused as refused:
            await _reply(send, refused.status, refused.body, (b"connection", b"close"))
            return
        if body is None:  # the client has gone
            return
        try:
            async with asyncio.timeout(self._answer_seconds):
                status, answer = await asyncio.to_thread(self._answer, body)
        except TimeoutError:
            status, answer = 504, _error("no answer was there in time", "DEADLINE_EXCEEDED")
        await _reply(send, status, answer)

    async def _read(self, headers: list[tuple[bytes, bytes]], receive: _Receive) -> bytes | None:
        """Read a body; None if the client hangs up."""
        kinds = [value.lower().replace(b" ", b"") for name, value in headers if name == b"content-type"]
        if len(kinds) != 1 or kinds[0] not in _JSON:
            raise _Refused(415, "only JSON is read here: say Content-Type: application/json")
        too_large = _Refused(413, f"the body has more than the {self._max_body:,} bytes allowed")
        # What it says of its length the server has checked.
        if int(dict(headers).get(b"content-length", 0)) > self._max_body:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self._max_body:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise _Refused(408, f"the body was not there after {self._body_seconds:g} s") from None

    def _answer(self, body: bytes) -> tuple[int, bytes]:
        """Give the status and the body of an answer."""
        try:
            photographs, params = read_request(body)
            for name in params:
                if name not in self._known:
                    raise ValueError(f"params has no {name[:40]!a}: it takes {', '.join(self._known)}")
        except ValueError as error:
            return 400, _error(str(error))
        try:
            table = pd.DataFrame({IMAGE: pd.Series(photographs, dtype=object)})
            found = self._model.predict(table, params=params)
            return 200, json.dumps({"predictions": found}, allow_nan=False).encode()
        except MlflowException as error:
            return error.get_http_status_code(), _error(error.message, error.error_code)
        except Exception:
            logger.exception("a request could not be answered")
            return 500, _error("the model could not answer: the log of the server says why", "INTERNAL_ERROR")


class _Refused(Exception):  # noqa: N818 - it is an answer
    """A request whose body is not read to its end."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, _error(message)


def _error(message: str, code: str = "BAD_REQUEST") -> bytes:
    return json.dumps({"error_code": code, "message": message}).encode()


async def _reply(send: _Send, status: int, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def hurried(seconds: float) -> type[H11Protocol]:
    """Give a protocol that hangs up on clients who keep a connection without asking, or do not take their answer.

    Parameters
    ----------
    seconds
        That a client has for either; it may have twice as many.
    """

    class Hurried(H11Protocol):
        _watch: TimerHandle
        _seen: Any = None

        def connection_made(self, transport: BaseTransport) -> None:
            super().connection_made(transport)  # type: ignore[arg-type]
            self._watch = self.loop.call_later(seconds, self._look)

        def connection_lost(self, exc: Exception | None) -> None:
            self._watch.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            idle = self.cycle is None or self.cycle.response_complete or self.flow.write_paused
            if idle and self.cycle is self._seen:
                self.transport.abort()
            else:
                self._seen = self.cycle
                self._watch = self.loop.call_later(seconds, self._look)

    return Hurried


def main(arguments: list[str] | None = None) -> int:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(prog="python -m crack_pipeline.serving.server", description=__doc__)
    parser.add_argument("model", help="such as models:/anomaly@champion or models:/segmentation/3")
    parser.add_argument("--host", default="127.0.0.1", help="of the network to listen on; nobody is asked who they are")
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--max-body", type=_positive, default=MAX_BODY / 2**20, help="MiB that a request may have")
    parser.add_argument("--body-seconds", type=_positive, default=BODY_SECONDS, help="that a client has to send it")
    parser.add_argument("--max-connections", type=int, default=MAX_CONNECTIONS, help="at a time; more of them get 503")
    parser.add_argument("--tracking-uri", default="sqlite:///mlflow.db", help="unless MLFLOW_TRACKING_URI says another")
    given = parser.parse_args(arguments)
    os.environ.setdefault("MLFLOW_TRACKING_URI", given.tracking_uri)
    from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

    try:
        model = scoring_server.load_model_with_mlflow_config(given.model)
    except (MlflowException, OSError, ValueError) as error:
        parser.error(f"{given.model} cannot be loaded: {' '.join(str(error).split())}")
    seconds = float(MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())
    app = Guarded(model, int(given.max_body * 2**20), given.body_seconds, seconds)
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        limit_concurrency=given.max_connections,
        http=hurried(given.body_seconds),
        log_level="warning",
    )
    return 0


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


if __name__ == "__main__":
    # A version answers with the code that it was registered with, not with what is installed here.
    for module in [module for module in sys.modules if module.partition(".")[0] == "crack_pipeline"]:
        del sys.modules[module]
    sys.exit(main())
