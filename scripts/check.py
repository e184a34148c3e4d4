"""`make test`, `make lint`, `make format` and `make lock`: every tool by its options, one after the other."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from scripts.build import LOCAL, build
from scripts.terraform import BUILD, ROOT, TerraformError, run_checks

LOCALSTACK_PACKAGE = ROOT / "scripts/localstack"
LOCALSTACK_PYTHON = BUILD / "localstack-venv/bin/python"
BIN = Path(sys.executable).parent
LOCKED = ("requirements", "requirements-dev")


class Terminated(Exception):
    """SIGTERM came."""


def test(arguments: Sequence[str]) -> bool:
    """Run LocalStack's package's own tests, then all layers; `arguments` are pytest's."""
    build(LOCAL)
    ok = True
    if not arguments and any(LOCALSTACK_PACKAGE.glob("tests/test_*.py")):
        ok = _run("scripts/localstack", [LOCALSTACK_PYTHON, "-m", "pytest", "-q"], LOCALSTACK_PACKAGE)
    # Last, so that the run ends with pytest's own line about all layers.
    return _run("tests", [BIN / "python", "-m", "pytest", *arguments]) and ok


def lint() -> bool:
    """Format, lint, types, drawn definitions, import contract, and Terraform's own checks."""
    steps = (
        _run("ruff check", [BIN / "ruff", "check", "."]),
        _run("ruff format", [BIN / "ruff", "format", "--check", "."]),
        _run("mypy --strict", [BIN / "mypy"]),
        _run(
            "mypy --strict in scripts/localstack",
            [BIN / "mypy", "--python-executable", LOCALSTACK_PYTHON],
            LOCALSTACK_PACKAGE,
        ),
        _run("docs/workflows.md", [BIN / "python", "-m", "scripts.draw", "--check"]),
        _run("import contract", [BIN / "lint-imports", "--no-logo", "--cache-dir", BUILD / "cache/import-linter"]),
        _run("terraform fmt", ["terraform", "fmt", "-check", "-diff", "-recursive", "terraform"]),
        _validate(),
        _run("terraform test", [BIN / "python", "-m", "pytest", "tests/terraform"]),
    )
    return all(steps)


def format_() -> bool:
    """Write the sources in the format that lint wants."""
    steps = (
        _run("ruff check", [BIN / "ruff", "check", "--fix-only", "."]),
        _run("ruff format", [BIN / "ruff", "format", "."]),
        _run("terraform fmt", ["terraform", "fmt", "-recursive", "terraform"]),
    )
    return all(steps)


def lock() -> bool:
    """Pin *.in anew, with hashes, for every platform that the packages are for, and without naming an index."""
    options = ["--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade"]
    options += ["--no-emit-index-url", "--custom-compile-command", "make lock"]
    return all(
        _run(f"{name}.txt", [BIN / "uv", "pip", "compile", *options, f"{name}.in", "-o", f"{name}.txt"])
        for name in LOCKED
    )


def _run(name: str, command: Sequence[str | Path], directory: Path = ROOT) -> bool:
    start = time.monotonic()
    env = {**os.environ, "UV_CACHE_DIR": str(BUILD / "cache/uv")}
    # Terraform would warn of a configuration file that is named but is not there.
    env.pop("TF_CLI_CONFIG_FILE", None)
    interrupted = False
    with subprocess.Popen([str(part) for part in command], cwd=directory, env=env) as tool:
        while tool.poll() is None:
            try:
                tool.wait()
            except KeyboardInterrupt:
                # Ctrl-C reached the tool too. It needs its time to stop what it has started.
                interrupted = True
            except Terminated:
                interrupted = True
                tool.send_signal(signal.SIGINT)
    if interrupted:
        raise KeyboardInterrupt
    return _verdict(name, tool.returncode == 0, time.monotonic() - start)


def _validate() -> bool:
    start, words = time.monotonic(), ""
    try:
        run_checks([("validate", "-no-color")])
    except TerraformError as error:
        words = f"{error}\n"
    print(words, end="")
    return _verdict("terraform validate", not words, time.monotonic() - start)


def _verdict(name: str, ok: bool, seconds: float) -> bool:
    if name != "tests":
        print(f"{'ok  ' if ok else 'FAIL'}  {name} ({seconds:.1f} s)", flush=True)
    return ok


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(prog="check", description=__doc__)
    parser.add_argument("command", choices=["test", "lint", "format", "lock"])
    parser.add_argument("arguments", nargs="*", help="test: pytest's, instead of all layers")
    given, more = parser.parse_known_args()
    try:
        if given.command == "test":
            return 0 if test([*given.arguments, *more]) else 1
        return 0 if {"lint": lint, "format": format_, "lock": lock}[given.command]() else 1
    except (KeyboardInterrupt, Terminated):
        return 130


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main())
