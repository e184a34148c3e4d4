"""Who plays in the demo, and the table of how each of them stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text

from scripts.devices import Device

ENDED = {"DELIVERED", "REJECTED", "EXPIRED", "EXHAUSTED", "CANCELLED", "SUPERSEDED"}
COLOURS = {"DELIVERED": "green", "REJECTED": "red", "AWAITING_ACK": "yellow"}


@dataclass
class Member:
    """One of the cast: what it does, its device, its message, and what the API last said of that."""

    name: str
    story: str
    request: dict[str, Any]
    device: Device | None = None
    id: str = ""
    message: dict[str, Any] = field(default_factory=dict)
    asked_at: float = 0.0
    asked_after: int = -1

    @property
    def status(self) -> str:
        """Its message's status."""
        return str(self.message.get("status", "-"))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Its message's attempts."""
        return list(self.message.get("attempts", []))

    @property
    def recorded(self) -> bool:
        """Whether each of them has its outcome: an ACK may well be faster."""
        return all(attempt["outcome"] for attempt in self.attempts)

    @property
    def news(self) -> int:
        """How much has happened at its device."""
        return len(self.device.receipts) + len(self.device.answers) if self.device else 0

    @property
    def ack_url(self) -> str:
        """The ACK URL that its device was given last."""
        receipts = self.device.receipts if self.device else []
        return receipts[-1].ack_url if receipts else ""

    @property
    def ended(self) -> bool:
        """Whether its message has ended."""
        return self.status in ENDED


def moment(text: str) -> datetime:
    """A time of the API."""
    return datetime.fromisoformat(text)


def span(seconds: float) -> str:
    """A length of time, as hours:minutes:seconds."""
    return str(timedelta(seconds=round(seconds)))


def table(cast: Sequence[Member]) -> Table:
    """How everything stands."""
    table = Table(title="until-ack: delivered until it is ACKed", title_justify="left")
    for heading in ("device", "what it does", "status", "attempts", "next attempt"):
        table.add_column(heading, no_wrap=heading == "attempts")
    for member in cast:
        table.add_row(
            member.name,
            member.story,
            Text(member.status, style=COLOURS.get(member.status, "")),
            "\n".join(_attempt(attempt, member.message) for attempt in member.attempts),
            _next(member.message.get("next_attempt_at")),
        )
    return table


def _attempt(attempt: Mapping[str, Any], message: Mapping[str, Any]) -> str:
    offset = (moment(attempt["sent_at"]) - moment(message["created_at"])).total_seconds()
    return f"{attempt['n']}  {offset:+6.1f} s  {attempt['outcome'] or '…'}"


def _next(text: str | None) -> str:
    if not text:
        return ""
    left = (moment(text) - datetime.now(UTC)).total_seconds()
    return f"{text[11:19]} UTC, in {span(max(0.0, left))}"
