"""Programs that end when the process that started them does, however that came about.

A program is not started directly but by this file, run as a small process of its own: it holds the reading end of a
pipe whose writing end is its starter's. When the starter closes it, or dies, the program is ended with everything in
its process group. It has a session of its own, so Ctrl-C in the terminal reaches the starter alone, which ends its
programs in its own order. `keep` cuts the line: the program then runs until somebody ends the process of the pid file.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

GRACE = 10.0
"""Seconds that a program has to end by itself."""
POLL = 0.05
KEEP = b"k"


class Process:
    """A program on a lifeline, as its starter sees it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        pid_file: Path | None = None,
    ) -> None:
        options = ["--log", str(log)] + (["--pid-file", str(pid_file)] if pid_file else [])
        self.log = log
        # Nothing of it is the starter's: whoever reads the starter's output would wait for it.
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-S", "-E", __file__, *options, "--", *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
            )

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._popen.wait()

    def keep(self) -> None:
        """Let it live on without its starter."""
        if self._popen.stdin:
            self._popen.stdin.write(KEEP)
            self._popen.stdin.close()
        # It is nobody's zombie: the next process up reaps it.
        self._popen.returncode = 0

    def stop(self) -> None:
        """End it, and return when it has gone with all that it started."""
        if self._popen.stdin:
            self._popen.stdin.close()
        self._popen.wait()

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


def holder(pid_file: Path) -> int | None:
    """The process of the pid file, if it lives: it holds a lock on the file, so a reused number deceives nobody."""
    try:
        with pid_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read())
    except (FileNotFoundError, ValueError):
        pass
    return None


def end(pid_file: Path) -> bool:
    """End the process of the pid file and wait until it has gone; False when there was none."""
    pid = holder(pid_file)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    while holder(pid_file) is not None:
        time.sleep(POLL)
    return True


def _claim(pid_file: Path) -> int:
    descriptor = os.open(pid_file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"{pid_file} is held by another process.")
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _end_group(program: "subprocess.Popen[bytes]") -> None:
    # The second round is for a program that would not go, and for what it left behind in its group.
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            os.killpg(program.pid, signal_)
            program.wait(GRACE)


def _watch() -> None:
    if os.read(0, 1) != KEEP:
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    """Run a program until it ends, the line is cut or SIGTERM comes; returns the program's exit code."""
    parser = argparse.ArgumentParser(prog="lifeline", description=main.__doc__)
    parser.add_argument("--log", type=Path, required=True, help="file that gets the program's output")
    parser.add_argument("--pid-file", type=Path, help="file that says which process to end")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    held = _claim(given.pid_file) if given.pid_file else -1
    with given.log.open("ab") as log:
        # Signals wait while the program starts: one in between would lose it.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
        program = subprocess.Popen(
            given.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT)),
        )
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        threading.Thread(target=_watch, daemon=True).start()
        code = program.wait()
        return code if code >= 0 else 128 - code
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _end_group(program)
        if given.pid_file:
            given.pid_file.unlink(missing_ok=True)
            os.close(held)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
