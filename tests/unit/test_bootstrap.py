"""The composition root: everything is built of the environment, once, and nothing at import."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers.channels.activity import Pulled
from handlers.delivery.attempting import Courier
from handlers.delivery.channel import Kind, Outcome, Parcel
from handlers.runtime import bootstrap
from handlers.runtime.bootstrap import AwsWorld
from handlers.runtime.env import BadEnvironment
from tests.fakes.dynamodb import REGION
from tests.fakes.world import ENVIRON, MemoryWorld

ROOT = Path(__file__).parents[2]
COMPLETE = {
    **ENVIRON,
    "WEBHOOK_KEY": "arn:webhook",
    "CONNECT_TIMEOUT": "3",
    "READ_TIMEOUT": "10",
    "MAIL_SENDER": "until-ack@example.com",
    "MAIL_TEMPLATE": "until-ack-message",
}
PARTS = [
    "intake", "courier", "timekeeper", "graves", "desk", "registrar", "redeliverer", "sweeper", "dispatcher", "settler",
    "job_poller", "push_tasks", "channel_queues",
]  # fmt: skip


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    yield
    bootstrap.use(None)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.usefixtures("aws")
def test_every_function_is_built_of_a_complete_environment_without_a_call(part: str) -> None:
    bootstrap.use(AwsWorld(COMPLETE))
    built = getattr(bootstrap, part)()
    assert built is getattr(bootstrap, part)(), "built once for each execution environment"


@pytest.mark.parametrize(("channel", "kind"), [("webhook", "Webhook"), ("email", "Email"), ("activity", "Pulled")])
@pytest.mark.usefixtures("aws")
def test_deliver_gets_the_channel_that_its_environment_names(channel: str, kind: str) -> None:
    bootstrap.use(AwsWorld({**COMPLETE, "CHANNEL": channel}))
    assert type(bootstrap.courier().channel).__name__ == kind


def test_what_asks_for_itself_is_neither_stopped_nor_completed(world: MemoryWorld) -> None:
    asking = [bootstrap.dispatcher().teller, bootstrap.settler().teller, bootstrap.job_poller().teller]
    telling = [bootstrap.courier().teller, bootstrap.desk().teller, bootstrap.timekeeper().teller]
    telling += [bootstrap.registrar().teller, bootstrap.sweeper().teller, bootstrap.redeliverer().teller]
    assert [teller.executions for teller in asking] == [None] * 3
    assert all(teller.executions is world.states for teller in telling)


@pytest.mark.usefixtures("aws")
def test_those_that_start_executions_know_the_queues_that_they_tell_them() -> None:
    bootstrap.use(AwsWorld(COMPLETE))
    parts: list[Any] = [bootstrap.intake().starter, bootstrap.redeliverer().starter]
    parts += [bootstrap.settler(), bootstrap.sweeper()]
    for part in parts:
        assert part.executions.channel_urls == {"webhook": "url:webhook", "email": "url:email"}
        assert part.executions.heartbeat == 60


def test_an_attempt_of_what_workers_pull_reaches_nobody_by_a_queue() -> None:
    parcel = Parcel("a" * 26, 1, "meter-7", b"", "text/plain", "", "")
    assert Pulled().send(parcel, 10) == Outcome(Kind.FAILED, "pulled_only")


def test_units_are_those_of_the_domain(world: MemoryWorld) -> None:
    courier: Courier = bootstrap.courier()
    assert (courier.lease, courier.grace) == (40_000, 180_000)
    assert (courier.timer_cap, courier.send_seconds) == (900, 10.0)
    assert bootstrap.intake().grace == 180
    assert bootstrap.sweeper().grace == 180_000
    assert world.wire.calls == []


@pytest.mark.parametrize("part", PARTS)
def test_a_part_whose_environment_is_incomplete_names_what_is_missing(world: MemoryWorld, part: str) -> None:
    world.environ.clear()
    with pytest.raises(BadEnvironment, match=r"environment variable [A-Z_]+ must be set"):
        getattr(bootstrap, part)()


def test_another_world_builds_everything_anew(world: MemoryWorld) -> None:
    first = bootstrap.registrar()
    bootstrap.use(world)
    assert bootstrap.registrar() is not first


@pytest.mark.usefixtures("aws")
def test_chance_and_time_are_real() -> None:
    world = AwsWorld(COMPLETE)
    assert len({world.token() for _ in range(100)}) == 100
    assert {len(world.seed()) for _ in range(3)} == {16}
    assert world.clock() > 1_700_000_000_000


def test_importing_a_function_makes_no_client_and_reads_no_environment() -> None:
    script = """
import boto3
boto3.client = boto3.resource = boto3.Session = None
from handlers import ack, attempts, check_ack, deliver, job, push, query, redeliver, settle, submit, sweep, tasks
print(submit.bootstrap._worlds)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, env={})
    assert done.stdout == "[]\n"
