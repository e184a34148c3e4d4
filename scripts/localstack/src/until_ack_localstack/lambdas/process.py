"""One process of a function: started, watched, its output collected, killed with everything it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

from until_ack_localstack.lambdas import packages
from until_ack_localstack.lambdas.runtime_api import RuntimeApi

_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_MAX_LOG_BYTES = 8 * 1024 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")

# Nobody writes to this pipe. Its writing end closes when this process ends, which ends the functions.
_life_read, _life_write = os.pipe()


class FunctionProcess:
    """A process that runs awslambdaric for one execution environment."""

    def __init__(self, env: dict[str, str], directory: str) -> None:
        self.api = RuntimeApi()
        self._log = bytearray()
        self._log_lock = threading.Lock()
        runtime = str(packages.runtime_folder())
        # The base interpreter, not the one of the virtual environment: -S leaves its site-packages out as well.
        python = getattr(sys, "_base_executable", None) or sys.executable
        self._process = subprocess.Popen(
            [python, "-S", str(_BOOTSTRAP), str(_life_read), runtime],
            env={"PYTHONPATH": runtime} | env | {"AWS_LAMBDA_RUNTIME_API": self.api.address},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(_life_read,),
            # A group of its own: Ctrl-C reaches LocalStack alone, and what the function starts can be killed with it.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._open = True
        self._killed = False
        threading.Thread(target=self._collect, name="lambda-output", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def exit_status(self) -> str | None:
        """Return how the process ended in Lambda's words, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return f"exit status {code}"
        return "signal: " + {signal.SIGKILL: "killed", signal.SIGSEGV: "segmentation fault"}.get(
            signal.Signals(-code), signal.Signals(-code).name.removeprefix("SIG").lower()
        )

    def memory_bytes(self) -> int:
        """Return the resident memory of the process now, 0 when it is gone."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:
                return int(statm.read().split()[1]) * _PAGE
        except (OSError, IndexError):
            return _memory_elsewhere(self.pid)

    def take_log(self) -> bytes:
        """Return what was written since the last call."""
        self._read_available()
        with self._log_lock:
            log = bytes(self._log)
            self._log.clear()
        return log

    def kill(self) -> None:
        """End the process and everything in its group."""
        if self._killed:
            return
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self.api.close()

    def _collect(self) -> None:
        output = select.poll()
        output.register(self._output, select.POLLIN)
        while self._open:
            output.poll()
            self._read_available()

    def _read_available(self) -> None:
        with self._log_lock:
            while self._open:
                try:
                    chunk = os.read(self._output, 65536)
                except BlockingIOError:
                    return
                if not chunk:
                    self._open = False
                    assert self._process.stdout is not None
                    self._process.stdout.close()
                    return
                if len(self._log) < _MAX_LOG_BYTES:
                    self._log += chunk


def _memory_elsewhere(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
