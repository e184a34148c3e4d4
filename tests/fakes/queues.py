"""SQS in memory: delays, visibility timeouts, receive counts, dead letters and repeated deliveries."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from handlers.delivery.errors import Unavailable
from handlers.delivery.ports import Post
from tests.fakes.wire import LimitBroken, Wire

ACCOUNT = "arn:aws:sqs:eu-central-1:000000000000"
MAX_DELAY = 900
MAX_BATCH = 10


@dataclass(slots=True)
class Envelope:
    """A message in a queue. Times in milliseconds."""

    id: str
    body: str
    sent_at: int
    visible_at: int
    receives: int = 0
    reason: str | None = None


@dataclass(slots=True)
class MemoryQueue:
    """One standard queue. `visibility` in milliseconds."""

    name: str
    clock: Callable[[], int]
    visibility: int = 120_000
    max_receives: int = 5
    envelopes: dict[str, Envelope] = field(default_factory=dict)
    dead: list[Envelope] = field(default_factory=list)
    sent: list[tuple[int, Mapping[str, Any], int]] = field(default_factory=list)
    """Everything that was ever sent: when, what, and with which DelaySeconds."""
    on_send: Callable[["MemoryQueue", Envelope], None] = lambda queue, envelope: None
    _ids: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def arn(self) -> str:
        return f"{ACCOUNT}:{self.name}"

    def send(self, body: str, delay: int = 0) -> Envelope:
        """Take a message in, as SendMessage does."""
        if type(delay) is not int or not 0 <= delay <= MAX_DELAY:
            raise LimitBroken(f"DelaySeconds {delay!r} on {self.name}")
        now = self.clock()
        envelope = Envelope(f"{self.name}-{next(self._ids)}", body, now, now + delay * 1000)
        self.envelopes[envelope.id] = envelope
        self.on_send(self, envelope)
        return envelope

    def receive(self, most: int = MAX_BATCH) -> list[Envelope]:
        """Hand out up to `most` visible messages; those received too often become dead letters."""
        now, received = self.clock(), list[Envelope]()
        for envelope in list(self.envelopes.values()):
            if len(received) == most:
                break
            if envelope.visible_at > now:
                continue
            envelope.receives += 1
            if envelope.receives > self.max_receives:
                self.dead.append(self.envelopes.pop(envelope.id))
                continue
            envelope.visible_at = now + self.visibility
            received.append(envelope)
        return received

    def delete(self, message_id: str) -> None:
        """Delete a message; one that has gone already is no matter."""
        self.envelopes.pop(message_id, None)

    def purge(self) -> None:
        """Drop everything."""
        self.envelopes.clear()

    def bodies(self) -> list[Any]:
        """What is in the queue, visible or not, oldest first."""
        return [json.loads(envelope.body) for envelope in self.envelopes.values()]

    def age(self) -> int:
        """How long the oldest message has been visible or in flight, in seconds."""
        now = self.clock()
        return max(((now - e.sent_at) // 1000 for e in self.envelopes.values()), default=0)


@dataclass(slots=True)
class MemoryQueues:
    """`handlers.delivery.ports.Queues`: the channel queues by name, the timer queues by delay."""

    by_channel: Mapping[str, MemoryQueue]
    by_delay: Mapping[int, MemoryQueue]
    wire: Wire = field(default_factory=Wire)

    @property
    def timers(self) -> Sequence[int]:
        return sorted(self.by_delay)

    @property
    def channels(self) -> Sequence[str]:
        return sorted(self.by_channel)

    def send(self, posts: Sequence[Post]) -> frozenset[int]:
        """Send by ten to a queue. A fault on `sqs.entry` fails one entry of a batch."""
        groups: dict[str, list[int]] = {}
        failed: set[int] = set()
        for position, post in enumerate(posts):
            queue = self._queue(post.queue)
            if queue is None:
                failed.add(position)
            else:
                groups.setdefault(queue.name, []).append(position)
        for positions in groups.values():
            for start in range(0, len(positions), MAX_BATCH):
                failed |= self._send_batch(positions[start : start + MAX_BATCH], posts)
        return frozenset(failed)

    def _send_batch(self, positions: Sequence[int], posts: Sequence[Post]) -> set[int]:
        def effect() -> set[int]:
            return {p for p in positions if not self._send(self._queue(posts[p].queue), posts[p])}

        try:
            return self.wire.call("sqs.send", effect)
        except Unavailable:
            return set(positions)

    def _send(self, queue: MemoryQueue | None, post: Post) -> bool:
        if queue is None:
            return False
        try:
            self.wire.with_fault("sqs.entry", lambda: queue.send(json.dumps(post.body), post.delay))
        except Unavailable:
            return False
        queue.sent.append((queue.clock(), post.body, post.delay))
        return True

    def _queue(self, key: str | int) -> MemoryQueue | None:
        return self.by_delay.get(key) if isinstance(key, int) else self.by_channel.get(key)

    def age(self, channel: str) -> int:
        return self.wire.call("cloudwatch.age", self.by_channel[channel].age)


@dataclass(slots=True)
class MemoryGraves:
    """`handlers.runtime.bootstrap.Graves`: the way to the queues' dead letters."""

    by_arn: Mapping[str, MemoryQueue]
    wire: Wire = field(default_factory=Wire)

    def bury(self, source_arn: str, body: str, reason: str) -> None:
        def effect() -> None:
            queue = self.by_arn[source_arn]
            now = queue.clock()
            queue.dead.append(Envelope(f"{queue.name}-dlq-{len(queue.dead)}", body, now, now, reason=reason))

        self.wire.call("sqs.bury", effect)
