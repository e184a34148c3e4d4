"""The functions' environment: one frozen dataclass for each, read once and checked whole.

A field's name in capitals is its variable. Errors name the variable, never its value: a value may
have been meant for another one.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self

from handlers.delivery.capability import MIN_LATE_WINDOW
from handlers.delivery.schedule import SQS_MAX_DELAY
from handlers.delivery.workflows import CATALOGUE


class BadEnvironment(Exception):
    """A variable is missing or not what it may be."""

    def __init__(self, variable: str, limit: str) -> None:
        self.variable = variable
        super().__init__(f"environment variable {variable} must be {limit}")


@dataclass(frozen=True, slots=True)
class Env:
    """What every function has."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables. Raises `BadEnvironment` naming the first that is missing or invalid."""
        values: dict[str, Any] = {}
        for f in fields(cls):
            variable, (read, limit) = f.name.upper(), f.metadata["kind"]
            text = environ.get(variable)
            if text is None or text == "":
                if f.default is MISSING and f.default_factory is MISSING:
                    raise BadEnvironment(variable, f"set: {limit}")
                continue
            try:
                values[f.name] = read(text)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise BadEnvironment(variable, limit) from None
        return cls(**values)


_KEY_ID = re.compile("[A-Za-z0-9_-]{1,32}")
"""A capability's parts are told apart by dots."""

VariableKind = tuple[Callable[[str], Any], str]


def _var(kind: VariableKind, default: Any = MISSING) -> Any:
    return field(default=default, metadata={"kind": kind})


def _whole(least: int, most: int) -> VariableKind:
    def read(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(text)
        return value

    return read, f"a whole number from {least} to {most}"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 900:
        raise ValueError(text)
    return value


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _strings(text: str) -> tuple[str, ...]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(text)
    return tuple(value)


def _string_map(text: str) -> dict[str, str]:
    value = json.loads(text)
    if not value or not all(isinstance(v, str) for v in value.values()):
        raise ValueError(text)
    return dict(value)


def _machines(text: str) -> dict[str, str]:
    machines = json.loads(text)
    if not all(isinstance(arn, str) and name in CATALOGUE for name, arn in machines.items()):
        raise ValueError(text)
    return dict(machines)


def _timers(text: str) -> dict[int, str]:
    timers = {int(delay): url for delay, url in _string_map(text).items()}
    if min(timers) < 1:
        raise ValueError(text)
    return timers


def _keys(text: str) -> dict[str, str]:
    keys = {key["id"]: key["secret"] for key in json.loads(text)}
    if not keys or not all(isinstance(secret, str) and _KEY_ID.fullmatch(key) for key, secret in keys.items()):
        raise ValueError(text)
    return keys


def _schedules(text: str) -> dict[str, tuple[int, ...]]:
    schedules = {name: tuple(delays) for name, delays in json.loads(text).items()}
    if "default" not in schedules or not all(
        delays and all(type(d) is int and d > 0 for d in delays) for delays in schedules.values()
    ):
        raise ValueError(text)
    return schedules


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(n)) for n in _strings(text))


_TEXT: VariableKind = (str, "text")
_FLAG: VariableKind = (_flag, "true or false")
_SECONDS: VariableKind = (_seconds, "seconds, above 0 and at most 900")
_LONG: VariableKind = _whole(1, 315_360_000)
_STRINGS: VariableKind = (_strings, "a JSON list of strings")
_STRING_MAP: VariableKind = (_string_map, "a JSON object of strings, not empty")
_TIMERS: VariableKind = (_timers, "a JSON object of queue URLs by delay in seconds")
_KEYS: VariableKind = (_keys, 'a JSON list of {"id", "secret"}, the signing key first')
_SCHEDULES: VariableKind = (_schedules, 'a JSON object of lists of seconds by name, with "default"')
_MACHINES: VariableKind = (_machines, "a JSON object of state machine ARNs by workflow")
_HEARTBEAT: VariableKind = _whole(3, 3600)
_NETWORKS: VariableKind = (_networks, "a JSON list of CIDR blocks")


@dataclass(frozen=True, slots=True)
class SubmitEnv(Env):
    """Of the function `submit`."""

    table: str = _var(_TEXT)
    channel_queues: dict[str, str] = _var(_STRING_MAP)
    schedules: dict[str, tuple[int, ...]] = _var(_SCHEDULES)
    default_expires_in: int = _var(_LONG)
    max_payload_bytes: int = _var(_whole(1, 262_144))
    sweep_grace: int = _var(_LONG)
    webhook_allow_http: bool = _var(_FLAG, default=False)
    webhook_allowed_networks: tuple[str, ...] = _var(_NETWORKS, default=())
    machines: dict[str, str] = field(default_factory=dict, metadata={"kind": _MACHINES})
    heartbeat: int = _var(_HEARTBEAT, default=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class TellingEnv(Env):
    """Of the functions that end messages and tell of it."""

    table: str = _var(_TEXT)
    events_topic: str = _var(_TEXT)
    alerts_topic: str = _var(_TEXT)
    sweep_grace: int = _var(_LONG)
    retention: int = _var(_LONG)
    machines: dict[str, str] = field(default_factory=dict, metadata={"kind": _MACHINES})
    heartbeat: int = _var(_HEARTBEAT, default=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverEnv(TellingEnv):
    """Of the functions `deliver-<channel>`."""

    channel: str = _var(_TEXT)
    channel_queues: dict[str, str] = _var(_STRING_MAP)
    timer_queues: dict[int, str] = _var(_TIMERS)
    timer_cap: int = _var(_whole(1, SQS_MAX_DELAY))
    capability_keys: dict[str, str] = _var(_KEYS)
    ack_base_url: str = _var(_TEXT)
    lease_seconds: int = _var(_whole(1, 43_200))
    late_window: int = _var(_whole(MIN_LATE_WINDOW, 315_360_000))
    send_seconds: float = _var(_SECONDS)


@dataclass(frozen=True, slots=True)
class WebhookEnv(Env):
    """Of `deliver-webhook`, beside `DeliverEnv`."""

    webhook_key: str = _var(_TEXT)
    connect_timeout: float = _var(_SECONDS)
    read_timeout: float = _var(_SECONDS)
    webhook_allow_http: bool = _var(_FLAG, default=False)
    webhook_allowed_networks: tuple[str, ...] = _var(_NETWORKS, default=())


@dataclass(frozen=True, slots=True)
class EmailEnv(Env):
    """Of `deliver-email`, beside `DeliverEnv`."""

    mail_sender: str = _var(_TEXT)
    mail_template: str = _var(_TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAckEnv(TellingEnv):
    """Of the function `check-ack`."""

    channel_queues: dict[str, str] = _var(_STRING_MAP)
    timer_queues: dict[int, str] = _var(_TIMERS)
    timer_cap: int = _var(_whole(1, SQS_MAX_DELAY))


@dataclass(frozen=True, slots=True)
class BuryingEnv(Env):
    """Of the functions that read queues, beside their own."""

    dlqs: dict[str, str] = _var(_STRING_MAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class AckEnv(TellingEnv):
    """Of the function `ack`."""

    timer_queues: dict[int, str] = _var(_TIMERS)
    timer_cap: int = _var(_whole(1, SQS_MAX_DELAY))
    capability_keys: dict[str, str] = _var(_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptsEnv(TellingEnv):
    """Of the function `attempts`."""

    channel_queues: dict[str, str] = _var(_STRING_MAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleEnv(TellingEnv):
    """Of the function `settle`."""

    channel_queues: dict[str, str] = _var(_STRING_MAP)
    timer_queues: dict[int, str] = _var(_TIMERS)
    timer_cap: int = _var(_whole(1, SQS_MAX_DELAY))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnv(TellingEnv):
    """Of the function `job`, beside `WebhookEnv`."""

    send_seconds: float = _var(_SECONDS)


@dataclass(frozen=True, slots=True)
class PushEnv(Env):
    """Of the function `push`."""

    push_activity: str = _var(_TEXT)
    channel_queues: dict[str, str] = _var(_STRING_MAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryEnv(TellingEnv):
    """Of the function `query`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeliverEnv(TellingEnv):
    """Of the function `redeliver`."""

    channel_queues: dict[str, str] = _var(_STRING_MAP)
    default_expires_in: int = _var(_LONG)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepEnv(TellingEnv):
    """Of the function `sweep`."""

    channel_queues: dict[str, str] = _var(_STRING_MAP)
    paused_channels: tuple[str, ...] = _var(_STRINGS, default=())
    sweep_limit: int = _var(_whole(1, 100_000), default=1000)
