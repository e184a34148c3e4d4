"""What the tests share: instances, clients, functions, and waiting with a deadline."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

T = TypeVar("T")
REGION = "us-east-1"
ACCOUNT = "000000000000"
# Without an SDK a function needs no more than its own credentials to be recognised.
SENDER = """
import json, os, urllib.request
def handler(event, context):
    credential = "Credential=%s/20260101/us-east-1/sqs/aws4_request" % os.environ["AWS_ACCESS_KEY_ID"]
    headers = {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0",
               "Authorization": "AWS4-HMAC-SHA256 %s, SignedHeaders=host, Signature=x" % credential}
    data = json.dumps({"QueueUrl": event, "MessageBody": "body"}).encode()
    return urllib.request.urlopen(urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], data, headers)).status
"""

_numbers = itertools.count(1)


def unique(noun: str) -> str:
    return f"{noun}-{os.getpid()}-{next(_numbers)}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(check: Callable[[], T], seconds: float = 30.0) -> T:
    """Return the first true answer of the check; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s"
        threading.Event().wait(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


class Instance:
    """LocalStack, started as people start it."""

    def __init__(self, directory: Path, *, port: int | None = None, smtp: str | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.requests = directory / "requests.jsonl"
        self.log = directory / "log"
        self._ready = directory / "ready"
        self._smtp = smtp
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, env: dict[str, str] | None = None) -> None:
        options = ["--port", str(self.port), "--dir", str(self.directory / "state"), "--requests", str(self.requests)]
        options += ["--ready-file", str(self._ready)] + (["--smtp", self._smtp] if self._smtp else [])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "until_ack_localstack", *options], stdout=log, stderr=log, env=env
            )
        process = self.process

        def ready() -> bool:
            assert process.poll() is None, self.log.read_text()
            return self._ready.exists()

        eventually(ready, 180)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=60)

    def function_processes(self) -> list[int]:
        """Return every process that has this instance's folder in its environment: its functions and theirs."""
        mark = str(self.directory / "state" / "tmp").encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and int(folder.name) != self.pid:
                try:
                    if mark in (folder / "environ").read_bytes() and alive(int(folder.name)):
                        found.append(int(folder.name))
                except OSError:
                    continue
        return found


@dataclass
class Stack:
    """An instance that runs, and what came to its SMTP server."""

    instance: Instance
    mails: list[tuple[list[str], EmailMessage]]
    _clients: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.instance.url

    def client(self, service: str, *, attempts: int = 1, keys: tuple[str, ...] = ("test", "test")) -> Any:
        name = f"{service} {attempts} {keys}"
        if name not in self._clients:
            self._clients[name] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id=keys[0],
                aws_secret_access_key=keys[1],
                aws_session_token=keys[2] if len(keys) > 2 else None,
                config=Config(
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    max_pool_connections=60,
                    parameter_validation=False,
                ),
            )
        return self._clients[name]

    def queue(self, **attributes: str) -> str:
        name = unique("queue")
        return str(self.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def lines(self, service: str, operation: str, **params: Any) -> list[dict[str, Any]]:
        """Return the lines of the request log for an operation with these parameters."""
        lines = [json.loads(line) for line in self.instance.requests.read_text().splitlines()]
        return [
            line
            for line in lines
            if (line["service"], line["operation"]) == (service, operation)
            and all(line["params"].get(name) == value for name, value in params.items())
        ]

    def fault(self, **fault: Any) -> str:
        status, document = self.http("POST", "/_until-ack/faults", fault)
        assert status == 201, document
        return str(document["id"])

    def faults(self) -> list[dict[str, Any]]:
        return list(self.http("GET", "/_until-ack/faults")[1]["faults"])

    def clear_faults(self) -> None:
        self.http("DELETE", "/_until-ack/faults")

    def http(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                content = response.read()
                return response.status, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@dataclass
class Result:
    """What an invocation came to."""

    error: str | None
    payload: Any
    log: str


class Functions:
    """Functions made from source."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._role = stack.client("iam").create_role(RoleName=unique("role"), AssumeRolePolicyDocument="{}")["Role"][
            "Arn"
        ]

    def make(self, source: str, *, timeout: int = 5, memory: int = 256, variables: dict[str, str] | None = None) -> str:
        content, name = io.BytesIO(), unique("function")
        with zipfile.ZipFile(content, "w") as package:
            package.writestr("main.py", source)
        client = self._stack.client("lambda")
        client.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=self._role,
            Handler="main.handler",
            Code={"ZipFile": content.getvalue()},
            Timeout=timeout,
            MemorySize=memory,
            Environment={"Variables": variables or {}},
        )
        eventually(lambda: client.get_function(FunctionName=name)["Configuration"]["State"] == "Active")
        return name

    def invoke(self, name: str, event: Any = None) -> Result:
        answer = self._stack.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail")
        log = base64.b64decode(answer["LogResult"]).decode()
        return Result(answer.get("FunctionError"), json.loads(answer["Payload"].read()), log)

    def subscribe(self, name: str, queue: str, **settings: Any) -> str:
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.rpartition('/')[2]}"
        client = self._stack.client("lambda")
        mapping = client.create_event_source_mapping(FunctionName=name, EventSourceArn=arn, **settings)["UUID"]
        eventually(lambda: client.get_event_source_mapping(UUID=mapping)["State"] == "Enabled")
        return str(mapping)


class Machines:
    """State machines made from their states, the first of which is where they start."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.client = stack.client("stepfunctions")
        self.role = unique("states")
        policy = {"RoleName": self.role, "AssumeRolePolicyDocument": "{}"}
        self._role_arn = stack.client("iam").create_role(**policy)["Role"]["Arn"]

    def make(self, states: dict[str, Any], *, timeout: int | None = None, **settings: Any) -> str:
        definition: dict[str, Any] = {"StartAt": next(iter(states)), "States": states}
        if timeout is not None:
            definition["TimeoutSeconds"] = timeout
        made = self.client.create_state_machine(
            name=unique("machine"), definition=json.dumps(definition), roleArn=self._role_arn, **settings
        )
        return str(made["stateMachineArn"])

    def start(self, machine: str, document: Any = None, name: str | None = None) -> str:
        named = {"name": name} if name else {}
        started = self.client.start_execution(stateMachineArn=machine, input=json.dumps(document or {}), **named)
        return str(started["executionArn"])

    def run(self, states: dict[str, Any], document: Any = None) -> dict[str, Any]:
        return self.ended(self.start(self.make(states), document))

    def ended(self, execution: str, seconds: float = 15.0) -> dict[str, Any]:
        """Return what has become of an execution, its output read."""

        def description() -> dict[str, Any]:
            found: dict[str, Any] = self.client.describe_execution(executionArn=execution)
            return {} if found["status"] == "RUNNING" else found

        found = eventually(description, seconds)
        return found | ({"output": json.loads(found["output"])} if "output" in found else {})

    def history(self, execution: str) -> list[dict[str, Any]]:
        return list(self.client.get_execution_history(executionArn=execution)["events"])

    def activity(self) -> str:
        return str(self.client.create_activity(name=unique("activity"))["activityArn"])

    def receive(self, queue: str, seconds: float = 10.0) -> str:
        """Take a message from a queue and return its body."""
        sqs = self._stack.client("sqs")

        def take() -> list[dict[str, Any]]:
            return list(sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages") or ())

        message = eventually(take, seconds)[0]
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return str(message["Body"])
