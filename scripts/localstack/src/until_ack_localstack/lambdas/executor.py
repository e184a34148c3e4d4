"""LocalStack's runtime executor: one execution environment of a function as a process."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from localstack import config
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from until_ack_localstack import callers, requestlog
from until_ack_localstack.lambdas import packages
from until_ack_localstack.lambdas.environment import function_environment
from until_ack_localstack.lambdas.process import FunctionProcess
from until_ack_localstack.lambdas.runtime_api import RESPONSE_TOO_LARGE, Answer, Invocation, Phase

LOG = logging.getLogger(__name__)

# Lambda's own bound for a first initialisation. One that fails or takes longer is repeated within the invocation.
INIT_SECONDS = 10.0
_TICK = 0.05
_MEGABYTE = 1024 * 1024

_running: set[ProcessExecutor] = set()
_running_lock = threading.Lock()


@dataclass
class _Report:
    """What the REPORT line and the request log say of an invocation."""

    request_id: str
    started: float = field(default_factory=time.monotonic)
    init_ms: float | None = None
    peak_bytes: int = 0
    error: str | None = None
    status: str | None = None

    def observe(self, process: FunctionProcess) -> None:
        self.peak_bytes = max(self.peak_bytes, process.memory_bytes())


class ProcessExecutor(RuntimeExecutor):
    """Runs one execution environment; its process is replaced after a timeout or a crash, as in Lambda's sandbox."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id=id, function_version=function_version)
        self._env: dict[str, str] = {}
        self._process: FunctionProcess | None = None
        self._init_ms: float | None = None
        self._temporary = ""
        self._stopped = False
        self._served = False
        self._lock = threading.Lock()

    # What LocalStack calls

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Unpack the function's code."""
        if function_version.config.code is None:
            raise RuntimeError("functions from container images need Docker")
        function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Remove the unpacked code."""
        if function_version.config.code is not None:
            function_version.config.code.destroy_cached()

    @classmethod
    def validate_environment(cls) -> bool:
        """Processes need nothing that could be missing."""
        return True

    def start(self, env_vars: dict[str, str]) -> None:
        """Start the first process. An initialisation that fails shows at the invocation, as on Lambda."""
        version = self.function_version
        self._temporary = tempfile.mkdtemp(prefix=f"lambda-{version.id.function_name}-")
        self._env = function_environment(
            env_vars,
            version.config.environment or {},
            task_root=str(version.config.code.get_unzipped_code_location()),
            runtime_dir=str(packages.runtime_folder()),
            runtime=version.config.runtime or "provided",
            temporary=self._temporary,
        )
        with _running_lock:
            _running.add(self)
        callers.register_environment(self._env["AWS_ACCESS_KEY_ID"], version.id.function_name, lambda: self.pid)
        started = time.monotonic()
        process = self._spawn()
        self._await_init(process, started + INIT_SECONDS, None)
        self._init_ms = (time.monotonic() - started) * 1000

    def stop(self) -> None:
        """End the environment."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None:
            process.kill()
        with _running_lock:
            _running.discard(self)
        callers.forget_environment(self._env.get("AWS_ACCESS_KEY_ID", ""))
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def get_address(self) -> str:
        """Where the process is."""
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        """The host by which the process reaches LocalStack."""
        host = config.GATEWAY_LISTEN[0].host
        return "127.0.0.1" if host in ("0.0.0.0", "::") else str(host)

    def get_runtime_endpoint(self) -> str:
        """The Runtime API is not LocalStack's gateway but a port of the environment's own."""
        return ""

    def get_logs(self) -> str:
        """What was written outside an invocation."""
        process = self._process
        return _output(process) if process else ""

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Run one invocation and return its result, whatever becomes of the process."""
        request_id = payload["invoke-id"]
        report = _Report(request_id)
        log = [f"START RequestId: {request_id} Version: {self.function_version.id.qualifier}\n"]
        report.init_ms, self._init_ms = self._init_ms, None
        answer = self._run(payload, report, log)
        duration_ms = (time.monotonic() - report.started) * 1000
        report.error = answer.error_type if answer.is_error else None
        log += self._closing_lines(report, duration_ms, payload["trace-id"])
        self._record(payload, report, duration_ms, answer)
        return InvocationResult(request_id, answer.payload, is_error=answer.is_error, logs="".join(log))

    # What it takes

    @property
    def pid(self) -> int | None:
        """The process of the environment now."""
        process = self._process
        return process.pid if process is not None and process.exit_status() is None else None

    def _spawn(self) -> FunctionProcess:
        with self._lock:
            if self._stopped:
                raise RuntimeError("the execution environment was stopped")
            self._process = FunctionProcess(self._env, self._env["LAMBDA_TASK_ROOT"])
            self._served = False
            return self._process

    def _run(self, payload: dict[str, str], report: _Report, log: list[str]) -> Answer:
        timeout = float(self.function_version.config.timeout)
        deadline = report.started + timeout
        process = self._fit_process(report, deadline, log)
        if process.api.phase is Phase.INIT_FAILED:
            answer = process.api.answer
            assert answer is not None
            log.append(_output(process))
            process.kill()
            return answer
        process.api.submit(_invocation(payload, timeout))
        while not process.api.wait_answered(_TICK):
            report.observe(process)
            if process.exit_status() is not None and self._served and process.api.withdraw():
                # It ended after its last answer and before it took this event: a new process gets it.
                process = self._fit_process(report, deadline, log)
                process.api.submit(_invocation(payload, timeout))
            elif (ended := self._ended(process, report, deadline, timeout)) is not None:
                process.kill()
                log += [_output(process), ended[1]]
                return ended[0]
        report.observe(process)
        answer = process.api.answer
        log.append(_output(process))
        if answer is None:
            message = f"RequestId: {report.request_id} Error: Runtime exited without providing a reason"
            return _error("Runtime.ExitError", message)
        self._served = True
        if answer.error_type == RESPONSE_TOO_LARGE:
            process.kill()  # the runtime client does not survive the refusal
        return answer

    def _fit_process(self, report: _Report, deadline: float, log: list[str]) -> FunctionProcess:
        """Return the process that has initialised, or a new one."""
        process = self._process
        if process is None or process.exit_status() is not None or process.api.phase is Phase.INIT_FAILED:
            if process is not None:
                log.append(_output(process))
                process.kill()
            process = self._spawn()
        if process.api.phase is Phase.STARTING:
            self._await_init(process, deadline, report)
        return process

    def _await_init(self, process: FunctionProcess, deadline: float, report: _Report | None) -> None:
        """Wait until the process asks for its first event, ends, or is out of time."""
        while not process.api.wait_started(_TICK):
            if report is not None:
                report.observe(process)
            if process.exit_status() is not None:
                return
            if time.monotonic() >= deadline:
                if report is None:
                    process.kill()
                return

    def _ended(
        self, process: FunctionProcess, report: _Report, deadline: float, timeout: float
    ) -> tuple[Answer, str] | None:
        """Return the answer and the log line in place of the process's own, when it has to be or has been ended."""
        limit = self.function_version.config.memory_size * _MEGABYTE
        if report.peak_bytes > limit:
            process.kill()
            report.peak_bytes = limit
        status = process.exit_status()
        if status is not None and process.api.answer is None:
            reason = (
                "Runtime exited without providing a reason"
                if status == "exit status 0"
                else f"Runtime exited with error: {status}"
            )
            report.status = "error\tError Type: Runtime.ExitError"
            message = f"RequestId: {report.request_id} Error: {reason}"
            return _error("Runtime.ExitError", message), f"{message}\nRuntime.ExitError\n"
        if time.monotonic() >= deadline:
            report.status = "timeout"
            said = f"Task timed out after {timeout:.2f} seconds"
            line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z {report.request_id} {said}\n"
            return _error("Sandbox.Timedout", f"RequestId: {report.request_id} Error: {said}"), line
        return None

    def _closing_lines(self, report: _Report, duration_ms: float, trace: str) -> list[str]:
        fields = [
            f"REPORT RequestId: {report.request_id}",
            f"Duration: {duration_ms:.2f} ms",
            f"Billed Duration: {_billed(report, duration_ms)} ms",
            f"Memory Size: {self.function_version.config.memory_size} MB",
            f"Max Memory Used: {math.ceil(report.peak_bytes / _MEGABYTE)} MB",
        ]
        if report.init_ms is not None:
            fields.append(f"Init Duration: {report.init_ms:.2f} ms")
        if report.status is not None:
            fields.append(f"Status: {report.status}")
        root = trace.partition("Root=")[2].partition(";")[0]
        if root:
            fields.append(f"XRAY TraceId: {root}")
        return [f"END RequestId: {report.request_id}\n", "\t".join(fields) + "\n"]

    def _record(self, payload: dict[str, str], report: _Report, duration_ms: float, answer: Answer) -> None:
        version = self.function_version
        requestlog.write(
            {
                "t": round(time.time() - duration_ms / 1000, 6),
                "service": "lambda",
                "operation": "Invocation",
                "caller": None,
                "function": version.id.function_name,
                "internal": True,
                "params": {
                    "RequestId": report.request_id,
                    "DurationMs": round(duration_ms, 2),
                    "BilledMs": _billed(report, duration_ms),
                    "InitMs": None if report.init_ms is None else round(report.init_ms, 2),
                    "MemorySize": version.config.memory_size,
                    "MaxMemoryUsed": math.ceil(report.peak_bytes / _MEGABYTE),
                    "Timeout": version.config.timeout,
                    "Architecture": version.config.architectures[0],
                    "RequestBytes": len(payload["payload"].encode()),
                    "ResponseBytes": len(answer.payload),
                    "Environment": self.id,
                },
                "status": 200,
                "error": report.error,
            }
        )


def _output(process: FunctionProcess) -> str:
    return process.take_log().decode(errors="replace")


def _invocation(payload: dict[str, str], timeout: float) -> Invocation:
    headers = {
        "Lambda-Runtime-Deadline-Ms": str(int((time.time() + timeout) * 1000)),
        "Lambda-Runtime-Invoked-Function-Arn": payload["invoked-function-arn"],
        "Lambda-Runtime-Trace-Id": payload["trace-id"],
    }
    return Invocation(payload["invoke-id"], payload["payload"].encode(), headers)


def _error(error_type: str, message: str) -> Answer:
    document: dict[str, Any] = {"errorType": error_type, "errorMessage": message}
    return Answer(json.dumps(document).encode(), True, error_type)


def _billed(report: _Report, duration_ms: float) -> int:
    return math.ceil(duration_ms + (report.init_ms or 0.0))


def stop_all() -> None:
    """End every process, whatever state LocalStack is in."""
    with _running_lock:
        executors = list(_running)
    for executor in executors:
        with contextlib.suppress(Exception):
            executor.stop()
