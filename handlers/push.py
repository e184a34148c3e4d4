"""The starter beside an activity that only waits: fetches a waiting task, and sends its attempt off."""

from dataclasses import replace
from typing import Any

from handlers.delivery.errors import Unavailable
from handlers.delivery.jobs import parse_task
from handlers.delivery.telling import iso
from handlers.runtime import bootstrap


def handler(event: Any, context: Any) -> dict[str, bool]:
    """Put the attempt of a waiting task into its channel's queue: of any task, as GetActivityTask gives them."""
    task = bootstrap.push_tasks().pull()
    if task is None:
        return {"started": False}
    token, text = task
    job, channel = parse_task(text, token)
    if job.task is not None:
        # A task that is pulled times out from now on, however long it has waited to be (GetActivityTask).
        job = replace(job, task=replace(job.task, asked_at=iso(bootstrap.world().clock())))
    if bootstrap.channel_queues().send([job.post(channel)]):
        raise Unavailable("sqs", "SendMessageBatch.Failed")
    return {"started": True}
