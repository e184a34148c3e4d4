"""What this package changes in LocalStack, part by part."""

from __future__ import annotations

import os
import threading
from typing import Any

_GRACE_SECONDS = 1.0


def install() -> None:
    """Apply every change. Called once, before the first request."""
    from localstack.aws import handlers

    from until_ack_localstack import activities, connections, faulting, metrics, queues, recorder
    from until_ack_localstack.api import gateway, openapi
    from until_ack_localstack.lambdas import limits
    from until_ack_localstack.mail import forward
    from until_ack_localstack.states import documents, errors, executions, invoke, requests, tokens

    _keep_objects_in_own_folder()
    _end_at_once()
    connections.install()
    queues.install()
    metrics.install()
    activities.install()
    forward.install()
    gateway.install()
    openapi.install()
    for part in (documents, errors, executions, invoke, requests, tokens):
        part.install()
    faulting.serve()
    handlers.serve_custom_service_request_handlers.append(recorder.begin)
    handlers.serve_custom_service_request_handlers.append(limits.check)
    handlers.serve_custom_service_request_handlers.append(faulting.before)
    handlers.run_custom_response_handlers.append(faulting.after)
    handlers.run_custom_response_handlers.append(recorder.record)
    handlers.run_custom_finalizers.append(connections.drop)


def _keep_objects_in_own_folder() -> None:
    """LocalStack's S3 writes to a fixed folder that instances would share."""
    import tempfile

    from until_ack_localstack.importing import when_imported

    def change(module: Any) -> None:
        module.DEFAULT_S3_TMP_DIR = f"{tempfile.gettempdir()}/s3"

    when_imported("localstack.services.s3.provider", change)


def _end_at_once() -> None:
    """Leave no function behind, and do not wait for LocalStack's own threads: nothing that they do is kept."""
    from localstack.runtime.runtime import LocalstackRuntime

    shutdown = LocalstackRuntime.shutdown

    def end(self: Any) -> None:
        from until_ack_localstack.lambdas.executor import stop_all

        timer = threading.Timer(_GRACE_SECONDS, os._exit, args=(0,))
        timer.daemon = True
        timer.start()
        stop_all()
        shutdown(self)

    LocalstackRuntime.shutdown = end
