from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support import Functions, Stack, alive, eventually

TOOLS = """
import json, os, subprocess, sys, threading
print("initialised")
def handler(event, context):
    event = event or {}
    print("event", json.dumps(event)[:100])
    if "seconds" in event: threading.Event().wait(event["seconds"])
    if "exit" in event: os._exit(event["exit"])
    if "child" in event:
        with open(event["child"], "w") as file: file.write(str(subprocess.Popen(["sleep", "60"]).pid))
        threading.Event().wait(60)
    if "megabytes" in event: block = b"x" * (event["megabytes"] << 20); threading.Event().wait(2)
    if "raise" in event: raise ValueError(event["raise"])
    if "bytes" in event: return "x" * event["bytes"]
    return {"pid": os.getpid(), "env": dict(os.environ), "path": sys.path, "id": context.aws_request_id,
            "remaining": context.get_remaining_time_in_millis()}
"""

LAMBDAS_OWN = {
    *("_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_ENDPOINT_URL"),
    *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"),
    *("AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
    *("AWS_LAMBDA_RUNTIME_API", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"),
    *("LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ"),
}


@pytest.fixture(scope="module")
def tools(functions: Functions) -> str:
    return functions.make(TOOLS, timeout=3, memory=128, variables={"OWN": "value", "LOCALSTACK_LIKE": "mine"})


def test_a_function_sees_lambdas_environment_its_own_and_nothing_else(functions: Functions, tools: str) -> None:
    seen = functions.invoke(tools).payload["env"]
    assert seen["OWN"] == "value"
    assert seen["LOCALSTACK_LIKE"] == "mine"
    assert set(seen) - {"OWN", "LOCALSTACK_LIKE"} <= LAMBDAS_OWN
    assert seen["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert seen["_X_AMZN_TRACE_ID"].startswith("Root=1-")


def test_a_function_imports_only_what_its_package_ships(functions: Functions, tools: str) -> None:
    name = functions.make("def handler(event, context):\n    __import__(event)\n")
    for module in ("boto3", "localstack", "urllib3", "until_ack_localstack", "pytest"):
        assert functions.invoke(name, module).payload["errorType"] == "ModuleNotFoundError"
    assert not [p for p in functions.invoke(tools).payload["path"] if p.endswith(("site-packages", "dist-packages"))]


def test_the_deadline_is_the_functions_timeout(functions: Functions, tools: str) -> None:
    assert 2500 < functions.invoke(tools).payload["remaining"] <= 3000


def test_a_warm_process_is_used_again(functions: Functions, tools: str) -> None:
    first, second = functions.invoke(tools), functions.invoke(tools)
    assert first.payload["pid"] == second.payload["pid"]
    assert "initialised" not in second.log
    assert first.payload["id"] != second.payload["id"]


def test_invocations_at_once_get_a_process_each(functions: Functions) -> None:
    name = functions.make(TOOLS)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: functions.invoke(name, {"seconds": 1}), range(3)))
    assert len({result.payload["pid"] for result in results}) == 3


def test_a_timeout_kills_the_process_and_the_next_invocation_gets_a_new_one(functions: Functions, tools: str) -> None:
    before = functions.invoke(tools).payload["pid"]
    result = functions.invoke(tools, {"seconds": 30})
    assert result.error == "Unhandled"
    assert result.payload["errorType"] == "Sandbox.Timedout"
    assert result.payload["errorMessage"].endswith("Error: Task timed out after 3.00 seconds")
    assert result.payload["errorMessage"].startswith("RequestId: ")
    assert "Status: timeout" in result.log
    assert not alive(before)
    assert functions.invoke(tools).payload["pid"] != before


def test_a_timeout_kills_what_the_function_started_too(functions: Functions, tools: str, tmp_path: Path) -> None:
    functions.invoke(tools, {"child": str(tmp_path / "pid")})
    child = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(child))


def test_an_exception_is_the_functions_answer(functions: Functions, tools: str) -> None:
    result = functions.invoke(tools, {"raise": "no such thing"})
    assert (result.error, result.payload["errorType"]) == ("Unhandled", "ValueError")
    assert result.payload["errorMessage"] == "no such thing"
    assert "[ERROR] ValueError: no such thing" in result.log


@pytest.mark.parametrize(
    ("code", "said"),
    [(3, "Runtime exited with error: exit status 3"), (0, "Runtime exited without providing a reason")],
)
def test_a_process_that_ends_itself(functions: Functions, tools: str, code: int, said: str) -> None:
    result = functions.invoke(tools, {"exit": code})
    assert result.payload["errorType"] == "Runtime.ExitError"
    assert result.payload["errorMessage"].endswith(f"Error: {said}")
    assert functions.invoke(tools).error is None


def test_memory_has_a_ceiling(functions: Functions, tools: str) -> None:
    result = functions.invoke(tools, {"megabytes": 300})
    assert result.payload["errorType"] == "Runtime.ExitError"
    assert result.payload["errorMessage"].endswith("signal: killed")
    assert "Max Memory Used: 128 MB" in result.log


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import nothing_of_that_name\n", "Runtime.ImportModuleError"),
        ("def other(): pass\n", "Runtime.HandlerNotFound"),
        ("def handler(:\n", "Runtime.UserCodeSyntaxError"),
        ("raise KeyError('x')\n", "KeyError"),
        ("import sys\nsys.exit(4)\n", "Runtime.ExitError"),
    ],
)
def test_an_initialisation_that_fails(functions: Functions, source: str, kind: str) -> None:
    name = functions.make(source)
    result = functions.invoke(name)
    assert (result.error, result.payload["errorType"]) == ("Unhandled", kind)
    assert functions.invoke(name).payload["errorType"] == kind


def test_a_response_may_have_six_megabytes(functions: Functions, tools: str) -> None:
    allowed = 6 * 1024 * 1024
    assert len(functions.invoke(tools, {"bytes": allowed - 2}).payload) == allowed - 2
    result = functions.invoke(tools, {"bytes": allowed})
    assert result.payload["errorType"] == "Function.ResponseSizeTooLarge"
    assert functions.invoke(tools).error is None


@pytest.mark.parametrize(("kind", "limit"), [("RequestResponse", 6 * 1024 * 1024), ("Event", 256 * 1024)])
def test_an_event_that_is_too_large_is_refused(stack: Stack, tools: str, kind: str, limit: int) -> None:
    client = stack.client("lambda")
    client.invoke(FunctionName=tools, InvocationType=kind, Payload=json.dumps("x" * (limit - 2)))
    with pytest.raises(ClientError) as refusal:
        client.invoke(FunctionName=tools, InvocationType=kind, Payload=json.dumps("x" * limit))
    assert refusal.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_what_is_printed_is_in_cloudwatch_logs(stack: Stack, functions: Functions, tools: str) -> None:
    request = functions.invoke(tools, {"mark": "seen"}).payload["id"]

    def messages() -> list[str]:
        events = stack.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{tools}")["events"]
        mine = [event["message"] for event in events]
        return mine if any(f"REPORT RequestId: {request}" in message for message in mine) else []

    found = "".join(eventually(messages))
    assert f"START RequestId: {request} Version: $LATEST" in found
    assert 'event {"mark": "seen"}' in found
    assert f"END RequestId: {request}" in found


def test_an_asynchronous_invocation_that_fails_is_tried_again(
    stack: Stack, functions: Functions, tmp_path: Path
) -> None:
    source = "def handler(event, context):\n    open(event, 'a').write('x')\n    raise ValueError\n"
    name, file = functions.make(source), tmp_path / "tries"
    stack.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(str(file)))
    eventually(lambda: file.exists() and file.read_text() == "xxx")


def test_every_environment_has_credentials_of_its_own(functions: Functions) -> None:
    name = functions.make(TOOLS)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: functions.invoke(name, {"seconds": 1}), range(2)))
    assert len({result.payload["env"]["AWS_ACCESS_KEY_ID"] for result in results}) == 2
