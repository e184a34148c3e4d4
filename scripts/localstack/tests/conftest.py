"""An instance of LocalStack for the whole run, with an SMTP server that keeps its mails."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from support import Functions, Instance, Machines, Stack, alive, free_port


class _Mailbox:
    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: object) -> str:  # noqa: N802
        import email
        import email.policy

        message = email.message_from_bytes(envelope.content, policy=email.policy.default)  # type: ignore[attr-defined]
        self.mails.append((list(envelope.rcpt_tos), message))  # type: ignore[attr-defined]
        return "250 kept"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    mailbox = _Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    directory: Path = tmp_path_factory.mktemp("localstack")
    instance = Instance(directory, smtp=f"127.0.0.1:{controller.port}")
    try:
        instance.start()
        yield Stack(instance, mailbox.mails)
    finally:
        processes = instance.function_processes()
        status = instance.stop()
        controller.stop()
    # SIGTERM ends it in good order, and every function with it.
    assert status == 0
    assert not [pid for pid in processes if alive(pid)]


@pytest.fixture(scope="session")
def functions(stack: Stack) -> Functions:
    return Functions(stack)


@pytest.fixture(scope="session")
def machines(stack: Stack) -> Machines:
    return Machines(stack)


@pytest.fixture
def faults(stack: Stack) -> Iterator[Stack]:
    yield stack
    stack.clear_faults()
