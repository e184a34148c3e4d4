"""Start LocalStack in the foreground: `python -m until_ack_localstack --port 4566 --dir build/localstack`."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from until_ack_localstack import settings


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return text


def _parse(arguments: list[str] | None) -> settings.Options:
    parser = argparse.ArgumentParser(
        prog="until_ack_localstack", description="LocalStack 4.9.2 without Docker, in the foreground."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4566, help="port to listen on (default: %(default)s)")
    parser.add_argument("--dir", type=Path, required=True, help="folder for everything this instance writes")
    parser.add_argument("--requests", type=Path, help="file that gets one JSON line per AWS request")
    parser.add_argument("--smtp", type=_address, help="host:port of the SMTP server that gets every mail")
    parser.add_argument("--ready-file", type=Path, help="file that appears when requests are answered")
    given = parser.parse_args(arguments)
    return settings.Options(given.host, given.port, given.dir, given.requests, given.smtp, given.ready_file)


def _refuse_taken_port(host: str, port: int) -> None:
    # LocalStack itself would say so only after its start-up, and in a stack trace.
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"until_ack_localstack: cannot listen on {host}:{port}: {error.strerror}.")


def main(arguments: list[str] | None = None) -> None:
    """Run LocalStack until SIGTERM or SIGINT."""
    options = _parse(arguments)
    _refuse_taken_port(options.host, options.port)
    env = settings.environment(options, dict(os.environ))
    settings.prepare(options)
    if options.ready_file is not None:
        options.ready_file.unlink(missing_ok=True)
    os.environ.clear()
    os.environ.update(env)

    from localstack.runtime.main import main as run  # reads the environment on import

    run()


if __name__ == "__main__":
    main()
