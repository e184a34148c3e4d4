"""A channel's queue: make the attempts that it asks for, all of a batch side by side."""

from collections.abc import Mapping
from typing import Any

from handlers.delivery.jobs import parse_attempt
from handlers.runtime import bootstrap
from handlers.runtime.batch import process, side_by_side


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Make each attempt; report the records that must come again."""
    courier = bootstrap.courier()
    return process(
        event,
        parse_attempt,
        lambda jobs: side_by_side(jobs, lambda job: courier.attempt(job, context.get_remaining_time_in_millis())),
        bootstrap.graves(),
    )
