"""The environment variables of a function's process: Lambda's own, the function's own, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html, and AWS_ENDPOINT_URL, by which LocalStack
# leads the SDKs to itself.
_LAMBDA = (
    "_HANDLER",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "AWS_ENDPOINT_URL",
    "TZ",
)

# A Python that was built with a shared library finds it by these.
_LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def function_environment(
    given: Mapping[str, object],
    own: Mapping[str, str],
    *,
    task_root: str,
    runtime_dir: str,
    runtime: str,
    temporary: str,
) -> dict[str, str]:
    """Return what the process may see: `given` is LocalStack's list, `own` the function's configuration."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8"}
    env |= {name: os.environ[name] for name in _LOADER if name in os.environ}
    env |= {name: str(given[name]) for name in _LAMBDA if name in given}
    env |= {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
        "LAMBDA_TASK_ROOT": task_root,
        "LAMBDA_RUNTIME_DIR": runtime_dir,
        # On Lambda /tmp belongs to one execution environment.
        "TMPDIR": temporary,
    }
    return env | dict(own)
