"""The timer queues: has it been ACKed? If not, hop, ask for the next attempt, or end the message."""

from collections.abc import Mapping
from typing import Any

from handlers.delivery.jobs import parse_timer
from handlers.runtime import bootstrap
from handlers.runtime.batch import process


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Answer a batch of timers; report the records that must come again."""
    return process(event, parse_timer, bootstrap.timekeeper().check, bootstrap.graves())
