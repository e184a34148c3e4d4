from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Functions, Instance, Stack, alive, eventually

SLOW = "import threading\ndef handler(event, context):\n    threading.Event().wait(30)\n"
QUICK = "def handler(event, context):\n    return event\n"


def _with_function(instance: Instance) -> list[int]:
    """Start an instance with one function that runs, and return the processes of its functions."""
    instance.start()
    stack = Stack(instance, [])
    functions = Functions(stack)
    name = functions.make(SLOW, timeout=30)
    caller = stack.client("lambda")
    threading.Thread(target=lambda: _ignore(lambda: caller.invoke(FunctionName=name)), daemon=True).start()
    return eventually(instance.function_processes, 120)


def _ignore(call: object) -> None:
    try:
        call()  # type: ignore[operator]
    except Exception:
        return


def test_functions_die_with_a_localstack_that_is_killed(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    processes = _with_function(instance)
    instance.stop(signal.SIGKILL)
    eventually(lambda: not [pid for pid in processes if alive(pid)])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Another instance, started from a shell with settings of its own and with no SMTP server where it was told."""
    directory = tmp_path_factory.mktemp("other")
    for folder in ("home", "temporary"):
        (directory / folder).mkdir()
    foreign = {"AWS_PROFILE": "mine", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "PERSISTENCE": "1", "SERVICES": "s3"}
    folders = {"HOME": str(directory / "home"), "TMPDIR": str(directory / "temporary")}
    instance = Instance(directory, smtp="127.0.0.1:9")
    instance.start({**os.environ, **foreign, **folders, "XDG_CACHE_HOME": str(directory / "home" / ".cache")})
    yield Stack(instance, [])
    instance.stop()


def test_two_instances_do_not_disturb_each_other(stack: Stack, other: Stack) -> None:
    name = "the-same-name"
    stack.client("sqs").create_queue(QueueName=name)
    assert "QueueUrls" not in other.client("sqs").list_queues()
    other.client("sqs").create_queue(QueueName=name, Attributes={"DelaySeconds": "7"})
    assert stack.client("sqs").get_queue_url(QueueName=name)["QueueUrl"].startswith(stack.url)


def test_nothing_is_written_outside_its_folder(other: Stack) -> None:
    functions = Functions(other)
    assert functions.invoke(functions.make(QUICK), 1).payload == 1
    other.client("s3").create_bucket(Bucket="bucket")
    other.client("s3").put_object(Bucket="bucket", Key="key", Body=b"x" * 1_000_000)
    assert not list((other.instance.directory / "home").iterdir())
    assert not list((other.instance.directory / "temporary").iterdir())
    assert not Path("/tmp/localstack-s3-storage").exists()
    assert list((other.instance.directory / "state").rglob("main.py"))


def test_a_missing_smtp_server_breaks_no_call(other: Stack) -> None:
    ses = other.client("ses")
    ses.verify_email_identity(EmailAddress="a@example.org")
    message = {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}
    assert ses.send_email(Source="a@example.org", Destination={"ToAddresses": ["b@example.org"]}, Message=message)
    eventually(lambda: "mail to b@example.org was not delivered" in other.instance.log.read_text())


def test_a_taken_port_is_said_in_one_sentence(stack: Stack, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "until_ack_localstack", "--port", str(stack.instance.port), "--dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().startswith(f"until_ack_localstack: cannot listen on 127.0.0.1:{stack.instance.port}:")
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_ready_file_says_where(stack: Stack) -> None:
    ready = json.loads((stack.instance.directory / "ready").read_text())
    assert ready == {"pid": stack.instance.pid, "endpoint_url": stack.url}


def test_ctrl_c_ends_it_and_every_function(other: Stack) -> None:
    processes = other.instance.function_processes()
    assert processes
    assert other.instance.stop(signal.SIGINT) == 0
    assert not [pid for pid in processes if alive(pid)]
