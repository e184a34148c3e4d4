"""The functions' environment: read whole, or refused by the variable's name."""

from dataclasses import MISSING, fields
from typing import Any

import pytest

from handlers.runtime import env
from handlers.runtime.env import BadEnvironment, Env
from tests.fakes.world import ENVIRON

COMPLETE = {
    **ENVIRON,
    "WEBHOOK_KEY": "arn:webhook",
    "CONNECT_TIMEOUT": "2.5",
    "READ_TIMEOUT": "5",
    "MAIL_SENDER": "until-ack@example.com",
    "MAIL_TEMPLATE": "until-ack-message",
}
FUNCTIONS: list[type[Env]] = [
    env.SubmitEnv,
    env.DeliverEnv,
    env.WebhookEnv,
    env.EmailEnv,
    env.CheckAckEnv,
    env.BuryingEnv,
    env.AckEnv,
    env.QueryEnv,
    env.RedeliverEnv,
    env.SweepEnv,
    env.AttemptsEnv,
    env.SettleEnv,
    env.JobEnv,
    env.PushEnv,
]
REQUIRED = [
    (function, f.name.upper())
    for function in FUNCTIONS
    for f in fields(function)
    if f.default is MISSING and f.default_factory is MISSING
]
STARTING = [env.SubmitEnv, env.RedeliverEnv, env.SettleEnv, env.SweepEnv]
COMPLETING = [env.AckEnv, env.QueryEnv, env.CheckAckEnv, env.DeliverEnv, env.AttemptsEnv, env.JobEnv]
INVALID = {
    "CHANNEL_QUEUES": ["x", "[]", "{}", '{"webhook": 1}', "null", "7"],
    "TIMER_QUEUES": ["x", "[15]", "{}", '{"soon": "url"}', '{"15": 5}', '{"0": "url"}', '{"-5": "url"}'],
    "DLQS": ["x", "{}", '{"arn": null}'],
    "TIMER_CAP": ["x", "0", "901", "1.5", "-1", "1e3"],
    "LEASE_SECONDS": ["0", "43201", "long"],
    "SEND_SECONDS": ["0", "-1", "901", "nan", "inf", "soon"],
    "LATE_WINDOW": ["1209599", "x"],
    "RETENTION": ["0", "x"],
    "SWEEP_GRACE": ["0", "x"],
    "SWEEP_LIMIT": ["0", "100001", "x"],
    "DEFAULT_EXPIRES_IN": ["0", "x"],
    "MAX_PAYLOAD_BYTES": ["0", "262145", "x"],
    "SCHEDULES": ["x", "{}", '{"other": [1]}', '{"default": []}', '{"default": [0]}', '{"default": ["1"]}', "[]"],
    "CAPABILITY_KEYS": [
        "x",
        "[]",
        "{}",
        '["k1"]',
        '[{"id": "k1"}]',
        '[{"id": 1, "secret": "arn"}]',
        '[{"id": "k.1", "secret": "arn"}]',
        '[{"id": "", "secret": "arn"}]',
        '[{"id": "k1", "secret": 5}]',
    ],
    "WEBHOOK_ALLOW_HTTP": ["yes", "True", "1"],
    "WEBHOOK_ALLOWED_NETWORKS": ["x", "{}", '["10.0.0.0/33"]', '["example.com"]', "[5]"],
    "PAUSED_CHANNELS": ["x", '"webhook"', "[1]", "{}"],
    "CONNECT_TIMEOUT": ["0", "x"],
    "READ_TIMEOUT": ["0", "x"],
    "MACHINES": ["x", "[]", "7", "null", '"arn"', '{"delivery_poll": 5}', '{"delivery_by_pigeon": "arn"}'],
    "HEARTBEAT": ["2", "3601", "x", "1.5", "-60"],
}


def refusal(function: type[Env], environ: dict[str, str]) -> BadEnvironment:
    with pytest.raises(BadEnvironment) as caught:
        function.from_env(environ)
    return caught.value


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_complete_environment_is_read(function: type[Env]) -> None:
    read = function.from_env(COMPLETE)
    assert all(getattr(read, f.name) is not None for f in fields(function))


def test_values_have_their_types() -> None:
    deliver = env.DeliverEnv.from_env(COMPLETE)
    assert deliver.timer_queues == {15: "url:timer-15", 30: "url:timer-30", 14400: "url:timer-14400"}
    assert (deliver.timer_cap, deliver.send_seconds) == (900, 10.0)
    assert deliver.capability_keys == {"k1": "arn:k1"}
    assert env.SubmitEnv.from_env(COMPLETE).schedules["quick"] == (1, 2, 9)
    assert env.WebhookEnv.from_env(COMPLETE).connect_timeout == 2.5


def test_the_first_key_listed_signs() -> None:
    keys = '[{"id": "k2", "secret": "arn:k2"}, {"id": "k1", "secret": "arn:k1"}]'
    read = env.AckEnv.from_env({**COMPLETE, "CAPABILITY_KEYS": keys})
    assert list(read.capability_keys) == ["k2", "k1"]


def test_what_may_be_left_out_has_a_default() -> None:
    sweep = env.SweepEnv.from_env({**COMPLETE, "PAUSED_CHANNELS": ""})
    assert (sweep.paused_channels, sweep.sweep_limit) == ((), 1000)
    submit = env.SubmitEnv.from_env(COMPLETE)
    assert (submit.webhook_allow_http, submit.webhook_allowed_networks) == (False, ())


@pytest.mark.parametrize("function", [*STARTING, *COMPLETING])
@pytest.mark.parametrize("machines", ["", "{}"])
def test_a_stack_may_do_without_workflows(function: Any, machines: str) -> None:
    without = {name: value for name, value in COMPLETE.items() if name not in ("MACHINES", "HEARTBEAT")}
    for environ in (without, {**without, "MACHINES": machines}):
        read = function.from_env(environ)
        assert (read.machines, read.heartbeat) == ({}, 60)


@pytest.mark.parametrize("function", [*STARTING, *COMPLETING])
def test_machines_are_read_by_workflow(function: Any) -> None:
    read = function.from_env({**COMPLETE, "MACHINES": '{"delivery_poll": "arn:poll"}', "HEARTBEAT": "3"})
    assert (read.machines, read.heartbeat) == ({"delivery_poll": "arn:poll"}, 3)


@pytest.mark.parametrize(("function", "variable"), REQUIRED)
def test_a_missing_or_empty_variable_is_named(function: type[Env], variable: str) -> None:
    without = {name: value for name, value in COMPLETE.items() if name != variable}
    for environ in (without, {**without, variable: ""}):
        error = refusal(function, environ)
        assert error.variable == variable
        assert variable in str(error)


@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable, values in INVALID.items() for value in values]
)
def test_an_invalid_variable_is_named(variable: str, value: str) -> None:
    error = refusal(reader_of(variable), {**COMPLETE, variable: value})
    assert error.variable == variable
    assert str(error).startswith(f"environment variable {variable} must be ")


@pytest.mark.parametrize("variable", INVALID)
def test_a_value_that_was_meant_for_another_variable_is_not_shown(variable: str) -> None:
    assert "sesame" not in str(refusal(reader_of(variable), {**COMPLETE, variable: "sesame"}))


def reader_of(variable: str) -> type[Env]:
    return next(f for f in FUNCTIONS if variable.lower() in {field.name for field in fields(f)})
