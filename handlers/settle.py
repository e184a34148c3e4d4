"""What an execution leaves behind is settled: by its last state, or by the rule that hears of its failure."""

from collections.abc import Mapping
from typing import Any

from handlers.runtime import bootstrap


def handler(event: Mapping[str, Any], context: Any) -> dict[str, str]:
    """Settle the message of one execution; returns how it stands."""
    if event.get("source") == "aws.states":
        # Our own stop cannot be told from another's: the record says whether the message has ended.
        detail = event["detail"]
        return {"status": bootstrap.settler().settle(detail["name"], f"the execution is {detail['status']}")}
    return {"status": bootstrap.settler().settle(event["execution"], event["trouble"].get("Error", ""))}
