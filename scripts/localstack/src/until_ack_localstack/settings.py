"""The environment in which LocalStack runs, and the settings of this package.

LocalStack reads its settings from environment variables while it is imported. The command line builds that
environment from scratch, so that a variable in the user's shell cannot change what the tests prove. Inside the Docker
image the same variables are given by the person who starts the container.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

REQUESTS = "UNTIL_ACK_REQUESTS"
SMTP = "UNTIL_ACK_SMTP"
READY_FILE = "UNTIL_ACK_READY_FILE"

EXECUTOR = "process"
SENDER = "alerts@until-ack.example"

# What a process needs of the machine it runs on, and nothing that says whose machine it is.
_INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)

# Settings that people may override in their shell: {name: default}.
_TUNABLE = {
    "DEBUG": "0",
    "LS_LOG": "",
    # LocalStack asks every queue for its depth this often; alarms cannot react faster.
    "SQS_CLOUDWATCH_METRICS_REPORT_INTERVAL": "5",
    "LAMBDA_KEEPALIVE_MS": "600000",
    # Between the tries of an asynchronous invocation. 60 on AWS.
    "LAMBDA_RETRY_BASE_DELAY": "1",
    "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.1",
    "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "0.1",
    "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_ERROR_SEC": "2",
    # Environments are assigned in threads; a thousand of them is what Lambda's own default limit allows.
    "LAMBDA_LIMITS_CONCURRENT_EXECUTIONS": "1000",
    "SNS_SES_SENDER_ADDRESS": SENDER,
}


@dataclass(frozen=True)
class Options:
    """What the command line was given."""

    host: str
    port: int
    directory: Path
    requests: Path | None = None
    smtp: str | None = None
    ready_file: Path | None = None


def environment(options: Options, inherited: dict[str, str]) -> dict[str, str]:
    """Return the whole environment of an instance that writes nothing outside its own directory."""
    root = options.directory.resolve()
    env = {name: inherited[name] for name in _INHERITED if name in inherited}
    env |= {name: inherited.get(name, default) for name, default in _TUNABLE.items()}
    env |= {
        "GATEWAY_LISTEN": f"{options.host}:{options.port}",
        "LOCALSTACK_HOST": f"{options.host}:{options.port}",
        "FILESYSTEM_ROOT": str(root / "root"),
        "HOME": str(root / "home"),
        # plux keeps its list of plugins here; in the user's own cache it would outlive a change of this package.
        "XDG_CACHE_HOME": str(root / "cache"),
        "CONFIG_DIR": str(root / "home"),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "OVERRIDE_IN_DOCKER": "0",
        "DISABLE_EVENTS": "1",
        # A page that the API serves may post to the API: on AWS nobody but the API itself would mind.
        "DISABLE_CORS_CHECKS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        # http://host:port/account/name: the only form that Terraform's provider takes.
        "SQS_ENDPOINT_STRATEGY": "off",
        # Loaded one after the other before the first request. Loaded by requests that come at the same time, their
        # modules import each other from several threads, which now and then deadlocks Python's imports for good.
        "EAGER_SERVICE_LOADING": "1",
        "SERVICES": "apigateway,cloudwatch,dynamodb,events,iam,kms,lambda,logs,s3,secretsmanager,ses,sns,sqs,"
        "stepfunctions,sts",
        # Others are loaded when they are asked for.
        "STRICT_SERVICE_LOADING": "0",
        "LAMBDA_RUNTIME_EXECUTOR": EXECUTOR,
        "LAMBDA_IGNORE_ARCHITECTURE": "1",
        "PROVIDER_OVERRIDE_DYNAMODB": "moto",
    }
    if options.requests is not None:
        env[REQUESTS] = str(options.requests.resolve())
    if options.smtp is not None:
        env[SMTP] = options.smtp
    if options.ready_file is not None:
        env[READY_FILE] = str(options.ready_file.resolve())
    return env


def prepare(options: Options) -> None:
    """Make the directories of an instance, without what an earlier start may have left in them."""
    root = options.directory.resolve()
    # A list of plugins from an earlier start would hide a plugin added since.
    shutil.rmtree(root / "cache" / "plux", ignore_errors=True)
    shutil.rmtree(root / "tmp", ignore_errors=True)
    for name in ("root", "home", "tmp", "cache"):
        (root / name).mkdir(parents=True, exist_ok=True)
    # Not by TMPDIR: LocalStack takes that variable for an outdated setting of its own.
    tempfile.tempdir = str(root / "tmp")
