"""What an execution writes and reads: JSON as AWS writes it, tokens as long as AWS's, and nothing parsed twice."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from until_ack_localstack.importing import when_imported

_TOKEN_BYTES = 512
_ASL = "localstack.services.stepfunctions.asl"


def install() -> None:
    """Change how documents are written, and keep what has been parsed."""
    when_imported(f"{_ASL}.utils.encoding", _change_json)
    when_imported(f"{_ASL}.utils.json_path", _change_paths)
    when_imported(f"{_ASL}.eval.states", _change_tokens)
    when_imported(f"{_ASL}.component.state.state", _change_times)
    when_imported("localstack.services.stepfunctions.backend.execution_worker", _change_programs)


def _change_json(module: Any) -> None:
    """LocalStack writes bodies, details and inputs with blanks and escapes; AWS writes them without."""
    encoder = module._DateTimeEncoder

    def to_json_str(obj: Any, separators: tuple[str, str] | None = None) -> str:
        return json.dumps(obj, cls=encoder, separators=separators or (",", ":"), ensure_ascii=False)

    module.to_json_str = to_json_str


def _change_paths(module: Any) -> None:
    """LocalStack parses a path anew whenever it is evaluated, which takes 14 ms: most of what an execution costs."""
    module.parse = _once(module.parse)


def _change_programs(module: Any) -> None:
    """LocalStack parses the definition anew for every execution, in several threads over one parser's tables."""
    parse = _once(module.AmazonStateLanguageParser.parse)
    # A program has no state of its own: all of it is in the execution's environment.
    module.ExecutionWorker._get_evaluation_entrypoint = lambda self: parse(
        self._evaluation_details.state_machine_details.definition
    )[0]


def _change_tokens(module: Any) -> None:
    """LocalStack's task tokens are UUIDs; AWS's are base64, and long."""
    module.long_uid = lambda: base64.b64encode(secrets.token_bytes(_TOKEN_BYTES)).decode()


def _change_times(module: Any) -> None:
    """LocalStack's $$.State.EnteredTime has microseconds and an offset; AWS's has milliseconds and a Z."""
    state_data = module.StateData

    def with_time(EnteredTime: str, **fields: Any) -> Any:  # noqa: N803
        entered = datetime.fromisoformat(EnteredTime).astimezone(UTC)
        return state_data(EnteredTime=f"{entered:%Y-%m-%dT%H:%M:%S}.{entered.microsecond // 1000:03d}Z", **fields)

    module.StateData = with_time


def _once(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    parsed: dict[str, Any] = {}
    lock = threading.Lock()

    def parse_once(text: str) -> Any:
        if text not in parsed:
            with lock:
                if text not in parsed:
                    parsed[text] = parse(text)
        return parsed[text]

    return parse_once
