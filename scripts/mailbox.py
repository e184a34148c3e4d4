"""A small SMTP server that keeps every mail as one `.eml` file in a folder.

It stands in for the mail servers of the world: LocalStack sends it what SES would send.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import time
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"


class Keeper:
    """What aiosmtpd calls for each mail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep a mail. It appears whole or not at all, and in the order of arrival when sorted by name."""
        name = f"{time.time_ns()}-{next(self._numbers):06d}"
        content = envelope.content or b""
        partial = self.folder / f".{name}"
        partial.write_bytes(content if isinstance(content, bytes) else content.encode())
        partial.rename(self.folder / f"{name}.eml")
        return "250 kept"


async def serve(folder: Path, port: int, ready_file: Path) -> None:
    """Serve until the process is told to end. The ready file says under which address: `{"pid","address"}`."""
    folder.mkdir(parents=True, exist_ok=True)
    loop = asyncio.get_running_loop()
    keeper = Keeper(folder)
    server = await loop.create_server(lambda: SMTP(keeper, hostname="localhost", loop=loop), HOST, port)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    partial = ready_file.with_suffix(".partial")
    address = f"{HOST}:{server.sockets[0].getsockname()[1]}"
    partial.write_text(json.dumps({"pid": os.getpid(), "address": address}))
    partial.rename(ready_file)
    async with server:
        await ended.wait()


def main() -> None:
    """Run the server in the foreground."""
    parser = argparse.ArgumentParser(prog="mailbox", description=main.__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder that gets the mails")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--ready-file", type=Path, required=True, help="file that appears when mail is taken")
    given = parser.parse_args()
    given.ready_file.unlink(missing_ok=True)
    asyncio.run(serve(given.dir, given.port, given.ready_file))


if __name__ == "__main__":
    main()
