"""The Lambda Runtime API (2018-06-01) for one process, on a port of its own on loopback."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler
from typing import Any

MAX_RESPONSE_BYTES = 6 * 1024 * 1024
RESPONSE_TOO_LARGE = "Function.ResponseSizeTooLarge"
_PREFIX = "/2018-06-01/runtime"
_RESULT = re.compile(re.escape(_PREFIX) + r"/invocation/([^/]+)/(response|error)")
_MAX_BODY = 64 * 1024 * 1024


class Phase(Enum):
    """Where the process is."""

    STARTING = auto()
    READY = auto()
    BUSY = auto()
    ANSWERED = auto()
    INIT_FAILED = auto()
    CLOSED = auto()


@dataclass(frozen=True)
class Invocation:
    """What the process gets as its next event."""

    request_id: str
    payload: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What the process said, or what is said in its place."""

    payload: bytes
    is_error: bool
    error_type: str | None = None


@dataclass
class _State:
    phase: Phase = Phase.STARTING
    invocation: Invocation | None = None
    answer: Answer | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)


class RuntimeApi:
    """Serves one process, and lets others wait for what it does."""

    def __init__(self) -> None:
        self._state = _State()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="lambda-runtime-api", daemon=True).start()

    @property
    def address(self) -> str:
        """The value of AWS_LAMBDA_RUNTIME_API."""
        host, port = self._socket.getsockname()[:2]
        return f"{host}:{port}"

    @property
    def phase(self) -> Phase:
        """Where the process is now."""
        with self._state.changed:
            return self._state.phase

    @property
    def answer(self) -> Answer | None:
        """The answer to the current invocation, or the error of the initialisation."""
        with self._state.changed:
            return self._state.answer

    def wait_started(self, seconds: float) -> bool:
        """Wait until the initialisation has ended, well or badly."""
        return self._wait(lambda: self._state.phase is not Phase.STARTING, seconds)

    def wait_answered(self, seconds: float) -> bool:
        """Wait until there is an answer to the invocation, or can be none."""
        return self._wait(lambda: self._state.answer is not None or self._state.phase is Phase.CLOSED, seconds)

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        with self._state.changed:
            return self._state.changed.wait_for(done, max(0.0, seconds))

    def submit(self, invocation: Invocation) -> None:
        """Give the process its next event."""
        with self._state.changed:
            self._state.invocation = invocation
            self._state.answer = None
            self._state.phase = Phase.BUSY
            self._state.changed.notify_all()

    def withdraw(self) -> bool:
        """Take the event back; return whether the process had not taken it yet."""
        with self._state.changed:
            waiting, self._state.invocation = self._state.invocation is not None, None
            return waiting

    def close(self) -> None:
        """Stop serving; requests that still wait end without an answer."""
        with self._state.changed:
            self._state.phase = Phase.CLOSED
            self._state.changed.notify_all()
        with contextlib.suppress(OSError), socket.create_connection(self._socket.getsockname()[:2], timeout=1):
            pass  # wakes the thread that accepts
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with self._socket:
            while True:
                connection, address = self._socket.accept()
                if self.phase is Phase.CLOSED:
                    connection.close()
                    return
                threading.Thread(
                    target=self._serve, args=(connection, address), name="lambda-runtime-api", daemon=True
                ).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError):
                _Handler(connection, address, self)  # type: ignore[arg-type]
        finally:
            self._connections.discard(connection)
            connection.close()

    def _next(self) -> Invocation | None:
        state = self._state
        with state.changed:
            if state.phase in (Phase.STARTING, Phase.ANSWERED):
                state.phase = Phase.READY
                state.changed.notify_all()
            state.changed.wait_for(lambda: state.invocation is not None or state.phase is Phase.CLOSED)
            invocation, state.invocation = state.invocation, None
            return None if state.phase is Phase.CLOSED else invocation

    def _finish(self, answer: Answer, phase: Phase) -> None:
        with self._state.changed:
            if self._state.phase is not Phase.CLOSED:
                self._state.answer = answer
                self._state.phase = phase
                self._state.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body go out in two writes; held back for an acknowledgement they would cost 40 ms.
    disable_nagle_algorithm = True
    server: RuntimeApi  # type: ignore[assignment]

    def log_message(self, *_: Any) -> None:
        """Say nothing: the function's log is not the place."""

    def do_GET(self) -> None:
        if self.path != f"{_PREFIX}/invocation/next":
            self._reply(404, {})
            return
        invocation = self.server._next()
        if invocation is None:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(invocation.payload)))
        self.send_header("Lambda-Runtime-Aws-Request-Id", invocation.request_id)
        for name, value in invocation.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(invocation.payload)

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), _MAX_BODY))
        if self.path == f"{_PREFIX}/init/error":
            self.server._finish(Answer(body, True, _error_type(body)), Phase.INIT_FAILED)
            self._reply(202, {"status": "OK"})
        elif match := _RESULT.fullmatch(self.path):
            self._result(match.group(2), body)
        else:
            self._reply(404, {})

    def _result(self, kind: str, body: bytes) -> None:
        if kind == "response" and len(body) > MAX_RESPONSE_BYTES:
            message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
            error = {"errorMessage": message, "errorType": RESPONSE_TOO_LARGE}
            self.server._finish(Answer(json.dumps(error).encode(), True, error["errorType"]), Phase.ANSWERED)
            self._reply(413, {"errorMessage": message, "errorType": "RequestEntityTooLarge"})
            return
        is_error = kind == "error"
        self.server._finish(Answer(body, is_error, _error_type(body) if is_error else None), Phase.ANSWERED)
        self._reply(202, {"status": "OK"})

    def _reply(self, status: int, document: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _error_type(body: bytes) -> str:
    try:
        return str(json.loads(body)["errorType"])
    except (ValueError, KeyError, TypeError):
        return "Unknown"
