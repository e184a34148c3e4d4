"""The whole stack on one machine: LocalStack, a mailbox, and terraform/ applied to them.

`start` makes an instance that ends with its caller, `up` one that is left running. Each has a folder under build/ for
its state, logs, mails and request log. With AWS_ENDPOINT_URL set, the LocalStack there is used instead; mails and
request log are then null, since only our LocalStack package has them.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any, Self

from scripts import build, lifeline
from scripts.lifeline import Process
from scripts.terraform import BUILD, DEFAULT_REGION, ROOT, Terraform, TerraformError, environment

HOST = "127.0.0.1"
PORT = 4566
LOCALSTACK = BUILD / "localstack-venv/bin/python"
BOOT_SECONDS = 120.0
POLL = 0.05
TRIES = 3
"""Starts of LocalStack, should somebody else take its port in between."""
MAIL_SENDER = "messages@until-ack.example"
OPERATORS = "operators@until-ack.example"
"""The address that alerts are mailed to."""
WORKING_FILES = ("localstack", "mails", "requests.jsonl", "*.log", "*.ready", "terraform.tfstate*", "stack.json")


class StackError(RuntimeError):
    """The stack could not be started; the message says why, with the last lines of the log."""


@dataclass
class Stack:
    """An instance, as stack.json describes it. A context manager that stops it."""

    endpoint_url: str
    region: str
    api_url: str
    ack_base_url: str
    table: str
    queues: dict[str, str]
    dlqs: dict[str, str]
    topics: dict[str, str]
    functions: dict[str, str]
    machines: dict[str, str]
    activities: dict[str, str]
    workflow_log_groups: dict[str, str]
    webhook_key_secret: str
    mailbox: str | None
    requests: str | None
    _end: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which AWS clients reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def describe(self) -> dict[str, Any]:
        """What stack.json says."""
        return {item.name: getattr(self, item.name) for item in fields(self) if not item.name.startswith("_")}

    def stop(self) -> None:
        """End what was started for it; on somebody else's LocalStack, remove the resources. Once is enough."""
        end, self._end = self._end, None
        if end:
            end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(name: str, *, variables: Mapping[str, Any] | None = None, directory: Path | None = None) -> Stack:
    """Start an instance and apply terraform/ to it. Its processes end with `stop`, or with this process.

    `variables` are Terraform's, on top of those of `local_variables`. Raises `StackError`.
    """
    instance = Instance(directory or BUILD / name)
    try:
        instance.boot()
        stack = instance.apply(variables or {})
    except BaseException:
        instance.stop()
        raise
    stack._end = instance.stop
    return stack


def local_variables(endpoint: str, package: Path) -> dict[str, Any]:
    """Terraform's variables for a stack that is here for a moment, with its devices on the loopback."""
    machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
    return {
        "package_path": str(package),
        "functions": {"architecture": machine},
        "channels": {"webhook": {}, "email": {}},
        "webhook": {"allow_http": True, "allowed_networks": ["127.0.0.0/8"]},
        "mail_sender": MAIL_SENDER,
        "alert_emails": [OPERATORS],
        "api": {
            "url_template": f"{endpoint}/_aws/execute-api/{{api_id}}/{{stage}}",
            "invoke_domain": "{api_id}.execute-api.{region}.localhost.localstack.cloud",
        },
        "table": {"deletion_protection": False},
        "secret_recovery_days": 0,
        # As often as our LocalStack measures its queues, so that an alarm is a matter of seconds.
        "alarms": {"period": 10},
    }


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the changes, objects merged name by name."""
    both = {name: merged(base[name], changes[name]) for name in base if _are_objects(base[name], changes.get(name))}
    return {**base, **changes, **both}


def _are_objects(first: object, second: object) -> bool:
    return isinstance(first, Mapping) and isinstance(second, Mapping)


class Instance:
    """One LocalStack with its mailbox and Terraform state, in one folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.foreign = False
        self.endpoint = ""
        self.region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
        self.mails = self.directory / "mails"
        self.requests = self.directory / "requests.jsonl"
        self._notes = self.directory / "instance.json"
        self._pid_files = {name: self.directory / f"{name}.pid" for name in ("localstack", "mailbox")}
        self._processes: list[Process] = []
        self._begun = time.monotonic()

    def boot(self) -> None:
        """Start LocalStack and mailbox, or take the endpoint that the environment names."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if pid := self.running():
            raise StackError(f"{self.directory} is in use by process {pid}: wait for it, or `make down`.")
        if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
            self.foreign, self.endpoint = True, endpoint.rstrip("/")
            self._say(f"Using the LocalStack at {self.endpoint}")
            if self._noted().get("endpoint_url") != self.endpoint:
                # The state left here is that of a LocalStack that is gone.
                self._clear()
        else:
            self._clear()
            self._boot_own()
        self._note()

    def apply(self, variables: Mapping[str, Any]) -> Stack:
        """Apply terraform/ and write stack.json."""
        all_variables = merged(local_variables(self.endpoint, build.build(build.LOCAL)), variables)
        terraform = self._terraform()
        self._note(all_variables)
        try:
            terraform.init()
            self._say("Applying terraform/ (log: " + _shown(terraform.log) + ") …")
            terraform.apply(all_variables)
        except TerraformError as error:
            raise StackError(str(error)) from error
        outputs = terraform.outputs()
        own = not self.foreign
        told = {item.name: outputs[item.name] for item in fields(Stack) if item.name in outputs}
        stack = Stack(
            **{**told, "region": self.region, "endpoint_url": self.endpoint},
            mailbox=str(self.mails) if own else None,
            requests=str(self.requests) if own else None,
        )
        _write(self.directory / "stack.json", stack.describe())
        self._say(f"The stack is up: {stack.api_url}")
        return stack

    def keep(self) -> None:
        """Let the processes outlive this one."""
        for process in self._processes:
            process.keep()
        self._processes.clear()

    def resume(self) -> bool:
        """Take up an instance that an earlier process left running."""
        notes = self._noted()
        if not (notes.get("foreign") or self.running()):
            return False
        self.foreign, self.endpoint, self.region = notes["foreign"], notes["endpoint_url"], notes["region"]
        return True

    def running(self) -> int | None:
        """The process that ends LocalStack, if it runs."""
        return lifeline.holder(self._pid_files["localstack"])

    def stop(self) -> None:
        """End the processes, or remove the resources from somebody else's LocalStack."""
        if self.foreign:
            self._destroy()
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        for pid_file in self._pid_files.values():
            lifeline.end(pid_file)
        self._notes.unlink(missing_ok=True)
        (self.directory / "stack.json").unlink(missing_ok=True)

    def _boot_own(self) -> None:
        if not LOCALSTACK.exists():
            raise StackError("LocalStack is not set up: run `scripts/setup.sh localstack`, as `make up` does.")
        ready = self.directory / "mailbox.ready"
        module = ["-m", "scripts.mailbox", "--dir", self.mails, "--ready-file", ready]
        mailbox = self._run("mailbox", [sys.executable, *module], PYTHONPATH=str(ROOT))
        address = _await(mailbox, ready, "the mailbox")["address"]
        for tries_left in reversed(range(TRIES)):
            port = _free_port()
            ready = self.directory / "localstack.ready"
            options = ["--host", HOST, "--port", port, "--dir", self.directory / "localstack", "--smtp", address]
            options += ["--requests", self.requests, "--ready-file", ready]
            localstack = self._run("localstack", [LOCALSTACK, "-m", "until_ack_localstack", *options])
            try:
                self.endpoint = f"http://{HOST}:{port}"
                _await(localstack, ready, "LocalStack")
                break
            except StackError:
                if not tries_left or "cannot listen" not in localstack.tail():
                    raise
                self._processes.remove(localstack)
        self.requests.touch()
        _link(BUILD / "requests.jsonl", self.requests)
        self._say(f"LocalStack answers at {self.endpoint}")

    def _run(self, name: str, command: list[object], **env: str) -> Process:
        log = self.directory / f"{name}.log"
        process = Process([str(part) for part in command], log, {**os.environ, **env}, self._pid_files[name])
        self._processes.append(process)
        return process

    def _terraform(self) -> Terraform:
        try:
            return Terraform(self.directory, environment(self.endpoint, self.region))
        except TerraformError as error:
            raise StackError(str(error)) from error

    def _destroy(self) -> None:
        variables = self._noted().get("variables")
        if variables is None:
            return
        self._say(f"Removing the resources from {self.endpoint} …")
        terraform = self._terraform()
        try:
            # LocalStack calls every mail address verified, so Terraform would wait for its end in vain.
            terraform.destroy(variables, except_type="aws_ses_email_identity")
        except TerraformError as error:
            self._say(str(error))

    def _clear(self) -> None:
        """Remove what an earlier LocalStack left: its resources died with it."""
        for pattern in WORKING_FILES:
            for path in self.directory.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _noted(self) -> dict[str, Any]:
        notes: dict[str, Any] = json.loads(self._notes.read_text()) if self._notes.exists() else {}
        return notes

    def _note(self, variables: Mapping[str, Any] | None = None) -> None:
        notes = {"endpoint_url": self.endpoint, "region": self.region, "foreign": self.foreign}
        _write(self._notes, notes | ({"variables": dict(variables)} if variables else {}))

    def _say(self, sentence: str) -> None:
        print(f"{time.monotonic() - self._begun:6.1f} s  {sentence}", file=sys.stderr, flush=True)


def _await(process: Process, ready: Path, what: str) -> dict[str, Any]:
    """What the ready file says, once it is there."""
    deadline = time.monotonic() + BOOT_SECONDS
    while not ready.exists():
        if not process.alive():
            raise StackError(f"{what} ended while it started (log: {process.log}):\n{process.tail()}")
        if time.monotonic() > deadline:
            raise StackError(f"{what} was not ready after {BOOT_SECONDS:.0f} s (log: {process.log}):\n{process.tail()}")
        time.sleep(POLL)
    said: dict[str, Any] = json.loads(ready.read_text())
    return said


def _free_port() -> int:
    """LocalStack's usual port, or any when that is taken."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StackError(f"No port is free on {HOST}.")


def _write(file: Path, content: Mapping[str, Any]) -> None:
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(file)


def _link(link: Path, target: Path) -> None:
    partial = link.with_suffix(f".{os.getpid()}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(os.path.relpath(target, link.parent))
    partial.replace(link)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def up(instance: Instance, stack_file: Path) -> None:
    """Start the stack, or apply terraform/ again to the one that runs, and leave it running."""
    resumed = instance.resume()
    wanted = os.environ.get("AWS_ENDPOINT_URL")
    if resumed and wanted and wanted.rstrip("/") != instance.endpoint:
        raise StackError(f"A stack is up at {instance.endpoint}: `make down` first, or unset AWS_ENDPOINT_URL.")
    try:
        if not resumed:
            instance.boot()
        stack = instance.apply({})
        _write(stack_file, stack.describe())
        instance.keep()
    except BaseException:
        if not resumed:
            instance.stop()
        raise
    print(f"{_shown(stack_file)} says what is where; `make down` stops it.")


def down(instance: Instance, stack_file: Path) -> bool:
    """Stop what `up` left running; False when there was nothing."""
    was_up = instance.resume()
    if was_up:
        instance.stop()
    stack_file.unlink(missing_ok=True)
    return was_up


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Start, stop or describe the stack that is left running."""
    parser = argparse.ArgumentParser(prog="stack", description=main.__doc__)
    parser.add_argument("command", choices=["up", "down", "env"])
    parser.add_argument("--if-running", action="store_true", help="down: say nothing when nothing runs")
    given = parser.parse_args()
    instance, stack_file = Instance(BUILD / "up"), BUILD / "stack.json"
    try:
        if given.command == "up":
            up(instance, stack_file)
        elif given.command == "down":
            if down(instance, stack_file):
                print("The stack is down.")
            elif not given.if_running:
                print("No stack is running: `make up` starts one.")
        elif instance.resume() and stack_file.exists():
            described: dict[str, Any] = json.loads(stack_file.read_text())
            for name, value in Stack(**described).environment.items():
                print(f"export {name}={value}")
        else:
            raise StackError("No stack is running: `make up` starts one.")
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(main())
