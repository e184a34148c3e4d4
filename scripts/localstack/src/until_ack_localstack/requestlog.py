"""The request log: one JSON line per AWS request, written with one system call so that lines never mix."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import Any

from until_ack_localstack import settings

LOG = logging.getLogger(__name__)


class _File:
    """Opened at the first line, and again when somebody has moved or removed the file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None

    def append(self, path: str, data: bytes) -> None:
        with self._lock:
            try:
                status = os.stat(path)
                current: tuple[int, int] | None = (status.st_dev, status.st_ino)
            except FileNotFoundError:
                current = None
            if current is None or current != self._identity:
                self._open(path)
            os.write(self._descriptor, data)

    def _open(self, path: str) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)


_file = _File()


def enabled() -> bool:
    """Return whether a request log was asked for."""
    return bool(os.environ.get(settings.REQUESTS))


def write(line: dict[str, Any]) -> None:
    """Append one line. A full disk must not break the request that is logged."""
    path = os.environ.get(settings.REQUESTS)
    if not path:
        return
    data = json.dumps(line, separators=(",", ":"), default=str).encode() + b"\n"
    try:
        _file.append(path, data)
    except OSError as error:
        LOG.warning("request log %s: %s", path, error)
