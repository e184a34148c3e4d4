"""How far is the job that a message has started at its target?"""

from collections.abc import Mapping
from typing import Any

from handlers.runtime import bootstrap


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Ask the target once: RUNNING with the next wait, AGAIN when the job is to be started anew, or OVER."""
    following = event["next"]
    polled = bootstrap.job_poller().poll(event["message_id"], int(event["life"]), int(following["wait"]))
    wait = polled.get("wait", following["wait"])
    return {"state": polled["state"], "next": {"index": following["index"], "wait": wait}}
