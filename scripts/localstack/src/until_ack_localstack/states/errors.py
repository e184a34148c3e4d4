"""The names of errors, and which of them Retry and Catch match."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from until_ack_localstack.importing import when_imported

_HEARTBEAT = "States.HeartbeatTimeout"
_WILDCARD = "States.ALL"
_RUNTIME = "States.Runtime"
# They end an execution whatever it catches.
_TERMINAL = (_RUNTIME, "States.DataLimitExceeded")
# As the errors of these services' integrations begin on AWS.
_SERVICES = {"dynamodb": "DynamoDB", "events": "EventBridge", "lambda": "Lambda", "sns": "SNS", "sqs": "SQS"}
_ASL = "localstack.services.stepfunctions.asl"
_TASK = f"{_ASL}.component.state.state_execution.state_task"


def install() -> None:
    """Let Retry and Catch know errors by the names that they have on AWS."""
    when_imported(f"{_ASL}.component.common.error_name.error_equals_decl", _change_matching)
    when_imported(f"{_TASK}.state_task", lambda module: _change_names(module.StateTask))
    when_imported(f"{_TASK}.state_task_activitiy", lambda module: _change_names(module.StateTaskActivity))
    when_imported(f"{_ASL}.component.state.state_execution.state_parallel.branches_decl", _change_branches)


def _change_names(task: Any) -> None:
    """LocalStack forgets why a task timed out, and has no name for a request that fails on its way.

    AWS reports a missed heartbeat as States.Timeout too (LocalStack's tests hold histories that were recorded there),
    but it is caught and retried by the name States.HeartbeatTimeout as well.
    """
    describe = task._from_error

    def from_error(self: Any, env: Any, ex: Exception) -> Any:
        from localstack.services.stepfunctions.asl.eval.callback.callback import HeartbeatTimeoutError

        event = describe(self, env, ex)
        if isinstance(ex, HeartbeatTimeoutError):
            event.error_name.until_ack_heartbeat = True
        elif isinstance(ex, ClientError | BotoCoreError) and event.error_name.error_name == _RUNTIME:
            return _failed_request(self, env, ex, event)
        return event

    task._from_error = from_error


def _failed_request(task: Any, env: Any, error: Exception, event: Any) -> Any:
    from localstack.services.stepfunctions.asl.component.common.error_name.custom_error_name import CustomErrorName
    from localstack.services.stepfunctions.asl.eval.event.event_detail import EventDetails

    service = getattr(task.resource, "service_name", None)
    if service is None:
        return event
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else "SdkClientException"
    name = f"{_SERVICES.get(service, service)}.{code}"
    details = {
        "error": name,
        "cause": str(error),
        "resource": task._get_sfn_resource(),
        "resourceType": task._get_sfn_resource_type(),
    }
    return type(event)(
        env=env,
        error_name=CustomErrorName(name),
        event_type=event.event_type,
        event_details=EventDetails(taskFailedEventDetails=details),
    )


def _change_matching(module: Any) -> None:
    """LocalStack's States.ALL matches what nothing can catch on AWS."""
    decl = module.ErrorEqualsDecl
    evaluate = decl._eval_body

    def eval_body(self: Any, env: Any) -> None:
        error_name = env.stack[-1]
        evaluate(self, env)
        names = {name.error_name for name in self.error_names}
        if error_name.error_name in _TERMINAL and _WILDCARD in names:
            env.stack[-1] = False
        elif getattr(error_name, "until_ack_heartbeat", False) and _HEARTBEAT in names:
            env.stack[-1] = True

    decl._eval_body = eval_body


def _change_branches(module: Any) -> None:
    """LocalStack cannot name a branch's error that begins with "States.": a timeout in it was never caught."""
    from localstack.services.stepfunctions.asl.component.common.error_name.error_name import ErrorName
    from localstack.services.stepfunctions.asl.component.common.error_name.states_error_name import StatesErrorName

    custom = module.CustomErrorName

    def named(error_name: str | None) -> Any:
        if error_name is None or not error_name.startswith("States."):
            return custom(error_name=error_name)
        try:
            return StatesErrorName.from_name(error_name)
        except ValueError:
            return ErrorName(error_name)

    module.CustomErrorName = named
