"""Logs, metrics and traces: the one module that knows Powertools and the X-Ray SDK (ADR 0012)."""

import os
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

logger = Logger(log_uncaught_exceptions=True, utc=True)


class PowertoolsLog:
    """`handlers.delivery.ports.Log` over Powertools: structured lines, metrics in their embedded form."""

    def info(self, msg: str, **fields: Any) -> None:
        """See `Log.info`."""
        logger.info(msg, extra=fields)

    def warning(self, msg: str, **fields: Any) -> None:
        """See `Log.warning`."""
        logger.warning(msg, extra=fields)

    def error(self, msg: str, fault: Exception) -> None:
        """See `Log.error`."""
        logger.error(msg, exc_info=fault)

    def count(self, name: str, **dimensions: str) -> None:
        """See `Log.count`."""
        try:
            with single_metric(name=name, unit=MetricUnit.Count, value=1) as metric:
                for dimension, value in dimensions.items():
                    metric.add_dimension(name=dimension, value=value)
        except Exception as fault:
            # What was counted has been done: no metric may make it look failed.
            logger.error("metric not counted", exc_info=fault, extra={"metric": name})


@cache
def trace_aws_calls() -> None:
    """Record AWS calls as subsegments where Lambda has a daemon for them; nothing elsewhere."""
    if "AWS_XRAY_DAEMON_ADDRESS" in os.environ:
        from aws_xray_sdk.core import patch, xray_recorder

        # A sampled-out or missing segment must never fail a call.
        xray_recorder.configure(context_missing="IGNORE_ERROR")
        patch(("botocore",))
