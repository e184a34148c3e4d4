"""SQS batches: failures are reported record by record, and what nobody can read is buried at once."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from handlers.delivery.errors import Unavailable, Unreadable
from handlers.runtime.bootstrap import Graves, world

Job = TypeVar("Job")


def process(
    event: Mapping[str, Any],
    parse: Callable[[str], Job],
    work: Callable[[Mapping[str, Job]], Mapping[str, Exception]],
    graves: Graves,
) -> dict[str, Any]:
    """Hand the readable records of a batch to `work`, and report those that must come again.

    `work` takes jobs by SQS message id and returns its failures by the same; it may raise
    `Unavailable` when all have failed.
    """
    failed: dict[str, Exception] = {}
    jobs: dict[str, Job] = {}
    for record in event["Records"]:
        try:
            jobs[record["messageId"]] = parse(record["body"])
        except Unreadable as poison:
            try:
                _bury(record, poison, graves)
            except Unavailable as error:
                failed[record["messageId"]] = error
    if jobs:
        try:
            failed.update(work(jobs))
        except Unavailable as error:
            failed.update(dict.fromkeys(jobs, error))
    for message_id, cause in failed.items():
        world().log.warning("record comes again", sqs_message_id=message_id, cause=repr(cause))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def side_by_side(jobs: Mapping[str, Job], work: Callable[[Job], None]) -> Mapping[str, Exception]:
    """Do all jobs at the same time, so that a slow one costs the batch one timeout, not ten."""

    def attempt(job: Job) -> Exception | None:
        try:
            work(job)
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        outcomes = pool.map(attempt, jobs.values())
        return {key: error for key, error in zip(jobs, outcomes, strict=True) if error is not None}


def _bury(record: Mapping[str, Any], poison: Unreadable, graves: Graves) -> None:
    graves.bury(record["eventSourceARN"], record["body"], poison.reason)
    world().log.warning("record buried", sqs_message_id=record["messageId"], reason=poison.reason)
    world().log.count("Buried", queue=record["eventSourceARN"].rsplit(":", 1)[1])
