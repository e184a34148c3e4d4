"""The entry points by which LocalStack finds this package. Each imports what it needs only when it is called."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from localstack.runtime import hooks
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.plugins import Service, aws_provider

from until_ack_localstack import settings


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """Runs functions as processes: LAMBDA_RUNTIME_EXECUTOR=process."""

    name = settings.EXECUTOR

    def load(self, *args: Any, **kwargs: Any) -> type:
        """Return the executor's class."""
        from until_ack_localstack.lambdas.executor import ProcessExecutor

        return ProcessExecutor


@aws_provider(api="dynamodb", name="moto")
def dynamodb_moto() -> Service:
    """DynamoDB over moto: PROVIDER_OVERRIDE_DYNAMODB=moto."""
    from until_ack_localstack.dynamodb.provider import service

    return service()


# A high priority comes early: before LocalStack loads its services.
@hooks.on_infra_start(priority=100)
def install() -> None:
    """Add everything that is not a provider of its own to LocalStack, before it serves its first request."""
    from until_ack_localstack import install as parts

    parts.install()


@hooks.on_infra_ready()
def announce() -> None:
    """Tell the person or script that waits that requests are answered."""
    path = os.environ.get(settings.READY_FILE)
    if path:
        from localstack import config

        ready = {"pid": os.getpid(), "endpoint_url": f"http://{config.GATEWAY_LISTEN[0]}"}
        partial = Path(f"{path}.partial")
        partial.write_text(json.dumps(ready) + "\n", encoding="utf-8")
        partial.replace(path)
