"""SQS and its event sources, quick and cheap.

LocalStack looks once a second whether a delayed message is due, and polls the queues of functions by requests, one
batch at a time. Here due messages show within a tenth of a second, an event source sleeps until its queue has
something to give, and as many batches run side by side as its maximum concurrency allows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from until_ack_localstack.importing import when_imported

LOG = logging.getLogger(__name__)

UPDATE_SECONDS = 0.1
# Lambda starts with five batches at once when the event source sets no maximum.
DEFAULT_CONCURRENCY = 5
# How long an event source sleeps before it looks whether it has been disabled.
_NAP = 1.0


def install() -> None:
    """Replace LocalStack's way of updating and of polling queues."""
    when_imported("localstack.services.sqs.provider", _change_updates)
    when_imported("localstack.services.lambda_.event_source_mapping.esm_worker_factory", _change_event_sources)


def _change_updates(provider: Any) -> None:
    provider.QueueUpdateWorker.start = _start_updates
    provider.QueueUpdateWorker.iter_queues = _all_queues


def _change_event_sources(module: Any) -> None:
    factory, SqsPoller = module.EsmWorkerFactory, module.SqsPoller  # noqa: N806
    make_worker = factory.get_esm_worker

    def get_esm_worker(self: Any) -> Any:
        worker = make_worker(self)
        if isinstance(worker.poller, SqsPoller):
            scaling = self.esm_config.get("ScalingConfig") or {}
            worker.poller.until_ack = _Batches(
                scaling.get("MaximumConcurrency") or DEFAULT_CONCURRENCY, worker._shutdown_event
            )
        return worker

    factory.get_esm_worker = get_esm_worker

    poll_events, handle_messages, close = SqsPoller.poll_events, SqsPoller.handle_messages, SqsPoller.close

    def poll(self: Any) -> None:
        batches, queue = getattr(self, "until_ack", None), _standard_queue(self.source_arn)
        if batches is None or queue is None:
            poll_events(self)
            return
        if not batches.reserve():
            return
        try:
            if _await_message(queue) and not batches.disabled.is_set():
                poll_events(self)
        finally:
            batches.release_unused()

    def handle(self: Any, messages: list[dict[str, Any]]) -> None:
        batches = getattr(self, "until_ack", None)
        if batches is None or not batches.run(lambda: handle_messages(self, messages)):
            handle_messages(self, messages)

    def finish(self: Any) -> None:
        close(self)
        if batches := getattr(self, "until_ack", None):
            batches.close()

    SqsPoller.poll_events, SqsPoller.handle_messages, SqsPoller.close = poll, handle, finish


class _Batches:
    """The batches of one event source that are under way."""

    def __init__(self, maximum: int, disabled: threading.Event) -> None:
        self.disabled = disabled
        self._free = threading.BoundedSemaphore(maximum)
        self._pool = ThreadPoolExecutor(maximum, thread_name_prefix="event-source-batch")
        self._reserved = False  # only the event source's own thread touches it

    def reserve(self) -> bool:
        """Take a place before messages are received: received messages must not wait for one."""
        self._reserved = self._free.acquire(timeout=_NAP)
        return self._reserved

    def release_unused(self) -> None:
        """Give the place back when nothing was received."""
        if self._reserved:
            self._reserved = False
            self._free.release()

    def run(self, work: Any) -> bool:
        """Run the work in the place that was taken; return False when there is none."""
        if not self._reserved:
            return False
        self._reserved = False

        def in_place() -> None:
            try:
                work()
            except Exception as error:
                LOG.warning("event source: a batch failed: %s", error, exc_info=LOG.isEnabledFor(logging.DEBUG))
            finally:
                self._free.release()

        self._pool.submit(in_place)
        return True

    def close(self) -> None:
        """Let what is under way end, and take nothing more."""
        self._pool.shutdown(wait=False)


def _standard_queue(arn: str) -> Any:
    from localstack.services.sqs.models import StandardQueue, sqs_stores

    _, _, _, region, account, name = arn.split(":", 5)
    queue = sqs_stores[account][region].queues.get(name)
    return queue if isinstance(queue, StandardQueue) else None


def _await_message(queue: Any) -> bool:
    visible = queue.visible
    with visible.not_empty:
        if not visible._qsize():
            visible.not_empty.wait(_NAP)
        return bool(visible._qsize())


def _all_queues(_: Any) -> Iterable[Any]:
    from localstack.services.sqs.models import sqs_stores

    # Lists, because queues are made and removed meanwhile.
    for _account, _region, store in list(sqs_stores.iter_stores()):
        yield from list(store.queues.values())


def _start_updates(self: Any) -> None:
    from localstack.utils.scheduler import Scheduler
    from localstack.utils.threads import start_thread

    with self.mutex:
        if self.thread:
            return
        scheduler = self.scheduler = Scheduler()
        scheduler.schedule(self.do_update_all_queues, period=UPDATE_SECONDS)
        self.thread = start_thread(lambda *_: scheduler.run(), name="sqs-queue-update-worker")
