"""Records as the API shows them, and the page that asks a person for an ACK."""

import html
from typing import Any

from handlers.delivery.message import Attempt, Record
from handlers.delivery.telling import iso


def _iso(millis: int | None) -> str | None:
    return None if millis is None else iso(millis)


def summary(record: Record) -> dict[str, Any]:
    """A message without its payload and attempts."""
    return {
        "id": record.id,
        "target": record.target,
        "channel": record.channel,
        "status": str(record.status),
        "life": record.life,
        "created_at": iso(record.created_at),
        "expires_at": iso(record.expires_at),
        "schedule": list(record.schedule),
        "max_attempts": record.max_attempts,
        "scheduler": str(record.scheduler),
        "workflow": record.workflow,
        "labels": dict(record.labels),
        "next_attempt_at": iso(record.due_at) if _goes_on(record) else None,
        "ended_at": _iso(record.ended_at),
        "reason": record.reason,
        "nack_reason": record.nack_reason,
        "acked_at": _iso(record.acked_at),
        "late_ack_at": _iso(record.late_ack_at),
    }


def detail(record: Record) -> dict[str, Any]:
    """A message with its attempts, oldest first."""
    return {**summary(record), "attempts": [_attempt(attempt) for attempt in record.attempts]}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "n": attempt.n,
        "due_at": iso(attempt.due_at),
        "sent_at": iso(attempt.sent_at),
        "outcome": None if attempt.outcome is None else str(attempt.outcome),
        "reason": attempt.reason,
        "http_status": attempt.http_status,
        "latency_ms": attempt.latency_ms,
    }


def _goes_on(record: Record) -> bool:
    return record.open and not record.exhausted and record.due_at < record.expires_at


def ack_page(message_id: str, capability: str) -> str:
    """The page behind a mail's link. Only its button ACKs: mail scanners follow links."""
    action = html.escape(f"?cap={capability}", quote=True)
    return _page(
        "Confirm receipt",
        f"""<p>Press the button to confirm that message <code>{html.escape(message_id)}</code> has arrived.</p>
<form method="post" action="{action}"><button type="submit">Yes, I have received it</button></form>
<p class="small">Until you do, it will be sent again from time to time.</p>""",
    )


def done_page(message_id: str, late: bool) -> str:
    """What a person sees after the button."""
    note = "It came after the message had ended, and has been noted." if late else "It will not be sent again."
    return _page(
        "Thank you",
        f"<p>Receipt of message <code>{html.escape(message_id)}</code> is confirmed. {note}</p>",
    )


def refused_page() -> str:
    """What a person sees with a link that is not valid."""
    return _page("This link is not valid", "<p>It may be incomplete, or too old. Nothing has been changed.</p>")


def _page(title: str, content: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 1.05rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 12vh auto; padding: 0 1rem; }}
button {{ font: inherit; padding: .7rem 1.4rem; border: 0; border-radius: .4rem; color: #fff; background: #06623b; }}
.small {{ color: #555; font-size: .9rem; }} code {{ overflow-wrap: anywhere; }}
</style></head><body><main><h1>{title}</h1>
{content}
</main></body></html>
"""
