"""The requests that a state machine makes: under its role, and logged as its own."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

from botocore.config import Config

from until_ack_localstack.importing import when_imported

_PRINCIPAL = "states"
# A role session lasts an hour; LocalStack opens one for every single request, and makes a client for it.
_SESSION_SECONDS = 900
_ASL = "localstack.services.stepfunctions.asl"

_sessions: dict[str, tuple[float, dict[str, str]]] = {}
_lock = threading.Lock()


def install() -> None:
    """Use a role's session for more than one request, and say for which machine a request is made."""
    when_imported(f"{_ASL}.utils.boto_client", _change_clients)
    when_imported(f"{_ASL}.component.state.state_execution.state_task.state_task", _change_credentials)


def session(role_arn: str, region: str) -> dict[str, str]:
    """Return the credentials of a session of this role."""
    from localstack.aws.connect import connect_to

    with _lock:
        opened, credentials = _sessions.get(role_arn, (0.0, {}))
        if not credentials or time.monotonic() - opened > _SESSION_SECONDS:
            sts = connect_to(region_name=region).sts.request_metadata(service_principal=_PRINCIPAL)
            credentials = sts.assume_role(RoleArn=role_arn, RoleSessionName=secrets.token_hex(16))["Credentials"]
            _sessions[role_arn] = (time.monotonic(), credentials)
        return credentials


def _change_clients(module: Any) -> None:
    from localstack.aws.connect import connect_to

    config = module._BOTO_CLIENT_CONFIG.merge(Config(max_pool_connections=64))

    def client_for(service: str, region: str, state_credentials: Any) -> Any:
        keys = session(state_credentials.role_arn, region)
        clients = connect_to(
            region_name=region,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
            config=config,
        )
        machine = getattr(state_credentials, "until_ack_machine", None)
        return clients.get_client(service).request_metadata(source_arn=machine, service_principal=_PRINCIPAL)

    module.boto_client_for = client_for


def _change_credentials(module: Any) -> None:
    task = module.StateTask
    evaluate = task._eval_state_credentials

    def eval_state_credentials(self: Any, env: Any) -> Any:
        credentials = evaluate(self, env)
        credentials.until_ack_machine = env.states.context_object.context_object_data["StateMachine"]["Id"]
        return credentials

    task._eval_state_credentials = eval_state_credentials
