"""The one composition root: what each function consists of, built once per execution environment.

`World` is everything outside a function; tests put another one in its place with `use`.
"""

import os
import secrets
import time
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

# Not where they are first needed: Lambda's Init has a whole processor for imports, an invocation its memory's share.
import boto3
from botocore.config import Config

from handlers.delivery.answering import Desk
from handlers.delivery.asking import Dispatcher, JobPoller, Prober, Settler
from handlers.delivery.attempting import Courier
from handlers.delivery.capability import Keyring
from handlers.delivery.channel import Channel
from handlers.delivery.errors import Invalid
from handlers.delivery.managing import Redeliverer, Registrar
from handlers.delivery.message import Policy, Record
from handlers.delivery.ports import Executions, Log, Queues, Store, Topics
from handlers.delivery.starting import Starter
from handlers.delivery.submitting import Intake
from handlers.delivery.sweeping import Sweeper
from handlers.delivery.telling import Teller
from handlers.delivery.timing import Timekeeper
from handlers.delivery.workflows import ACTIVITY, CATALOGUE
from handlers.runtime import env

if TYPE_CHECKING:
    from handlers.channels.webhook import Webhook


class Graves(Protocol):
    """Where records go that can never be processed."""

    def bury(self, source_arn: str, body: str, reason: str) -> None:
        """Send a record to the dead-letter queue of the queue that it came from."""
        ...


class Tasks(Protocol):
    """Tasks of an activity, for who pulls them."""

    def pull(self) -> tuple[str, str] | None:
        """Token and input of a waiting task, if there is one within a minute."""
        ...


class World(Protocol):
    """Everything outside: services, time and chance."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment variables."""
        ...

    @property
    def log(self) -> Log:
        """Where the functions say what they did."""
        ...

    def clock(self) -> int:
        """Now, in milliseconds since the epoch."""
        ...

    def pause(self, seconds: float) -> None:
        """Let so many seconds pass."""
        ...

    def token(self) -> str:
        """A claim's token: random."""
        ...

    def seed(self) -> bytes:
        """16 random bytes for a message id."""
        ...

    def store(self, table: str) -> Store:
        """The messages table."""
        ...

    def queues(self, channels: Mapping[str, str], timers: Mapping[int, str]) -> Queues:
        """The queues, by their URLs."""
        ...

    def topics(self, events: str, alerts: str) -> Topics:
        """The topics, by their ARNs."""
        ...

    def executions(self, machines: Mapping[str, str], channels: Mapping[str, str], heartbeat: int) -> Executions:
        """The workflows' executions: ARNs of machines by workflow, URLs of queues by channel."""
        ...

    def tasks(self, activity: str) -> Tasks:
        """The tasks of an activity, by its ARN."""
        ...

    def graves(self, dlqs: Mapping[str, str]) -> Graves:
        """The dead-letter queues' URLs, by their source queues' ARNs."""
        ...

    def secrets(self, arns: Mapping[str, str]) -> Callable[[str], bytes]:
        """Secrets by name."""
        ...

    def channel(self, name: str) -> Channel:
        """A channel, as its environment describes it."""
        ...

    def prober(self) -> Prober:
        """What asks targets how far they are."""
        ...


class AwsWorld:
    """The real one. Clients are made when they are first needed: an import must cost nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        from handlers.runtime.observability import PowertoolsLog, trace_aws_calls

        trace_aws_calls()
        self.environ = environ
        self.log: Log = PowertoolsLog()

    def clock(self) -> int:
        """See `World.clock`."""
        return time.time_ns() // 1_000_000

    def pause(self, seconds: float) -> None:
        """See `World.pause`."""
        time.sleep(seconds)

    def token(self) -> str:
        """See `World.token`."""
        return secrets.token_urlsafe(9)

    def seed(self) -> bytes:
        """See `World.seed`."""
        return secrets.token_bytes(16)

    def store(self, table: str) -> Store:
        """See `World.store`."""
        from handlers.aws.store import DynamoStore

        return DynamoStore(_client("dynamodb"), table)

    def queues(self, channels: Mapping[str, str], timers: Mapping[int, str]) -> Queues:
        """See `World.queues`."""
        from handlers.aws.queues import SqsQueues

        return SqsQueues(_client("sqs"), channels, timers, lambda: _client("cloudwatch"))

    def topics(self, events: str, alerts: str) -> Topics:
        """See `World.topics`."""
        from handlers.aws.topics import SnsTopics

        return SnsTopics(_client("sns"), events, alerts)

    def executions(self, machines: Mapping[str, str], channels: Mapping[str, str], heartbeat: int) -> Executions:
        """See `World.executions`."""
        from handlers.aws.workflows import SfnExecutions

        return SfnExecutions(lambda: _client("stepfunctions"), machines, channels, heartbeat, self.log)

    def tasks(self, activity: str) -> Tasks:
        """See `World.tasks`."""
        from handlers.aws.workflows import LONG_POLL, Activity

        return Activity(_client("stepfunctions", LONG_POLL), activity)

    def graves(self, dlqs: Mapping[str, str]) -> Graves:
        """See `World.graves`."""
        from handlers.aws.queues import DeadLetters

        return DeadLetters(_client("sqs"), dlqs)

    def secrets(self, arns: Mapping[str, str]) -> Callable[[str], bytes]:
        """See `World.secrets`."""
        from handlers.aws.secrets import Secrets

        return Secrets(_client("secretsmanager"), arns).get

    def channel(self, name: str) -> Channel:
        """See `World.channel`."""
        return _CHANNELS[name](self)

    def prober(self) -> Prober:
        """See `World.prober`."""
        return _webhook(self)


def _webhook(world: World) -> "Webhook":
    from handlers.channels.networks import networks
    from handlers.channels.webhook import Settings, Webhook
    from handlers.delivery.signing import webhook_secret

    e = env.WebhookEnv.from_env(world.environ)
    master = world.secrets({"webhook": e.webhook_key})
    settings = Settings(
        allow_http=e.webhook_allow_http,
        allowed_networks=networks(e.webhook_allowed_networks),
        connect_timeout=e.connect_timeout,
        read_timeout=e.read_timeout,
    )
    return Webhook(lambda target: webhook_secret(master("webhook"), target), settings)


def _email(world: World) -> Channel:
    from handlers.aws.mail import CONFIG, SesMail
    from handlers.channels.email import Email

    e = env.EmailEnv.from_env(world.environ)
    return Email(SesMail(_client("ses", CONFIG)), e.mail_sender, e.mail_template)


def _pulled(world: World) -> Channel:
    from handlers.channels.activity import Pulled

    return Pulled()


_CHANNELS: Mapping[str, Callable[[World], Channel]] = {"webhook": _webhook, "email": _email, ACTIVITY: _pulled}


@cache
def _client(service: Any, config: Any = None) -> Any:
    # Short, and few retries: what fails comes again from its queue, or by its caller's hand.
    config = config or Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=20,
    )
    return boto3.client(service, config=config)


_worlds: list[World] = []


def world() -> World:
    """The world that the functions live in."""
    if not _worlds:
        _worlds.append(AwsWorld(os.environ))
    return _worlds[0]


def use(other: World | None) -> None:
    """Live in another world from now on; None: in the real one again."""
    _worlds[:] = [] if other is None else [other]
    for part in (
        intake, courier, timekeeper, graves, desk, registrar, redeliverer, sweeper, dispatcher, settler, job_poller,
        channel_queues, push_tasks,
    ):  # fmt: skip
        part.cache_clear()


@cache
def intake() -> Intake:
    """What `submit` consists of."""
    w = world()
    e = env.SubmitEnv.from_env(w.environ)
    return Intake(
        store=w.store(e.table),
        starter=_starter(w, e),
        checks=_checks(e),
        policy=Policy(
            schedules=e.schedules,
            default_expires_in=e.default_expires_in,
            max_payload_bytes=e.max_payload_bytes,
        ),
        clock=w.clock,
        new_seed=w.seed,
        log=w.log,
        grace=e.sweep_grace,
    )


def _checks(e: env.SubmitEnv) -> Mapping[str, Callable[[Record], None]]:
    from handlers.channels.addresses import check_mail_address, check_webhook_url
    from handlers.channels.email import check_mail_payload
    from handlers.channels.networks import networks

    allowed = networks(e.webhook_allowed_networks)

    def webhook(record: Record) -> None:
        check_webhook_url(record.target, e.webhook_allow_http, allowed)

    def email(record: Record) -> None:
        check_mail_address(record.target)
        check_mail_payload(record.payload, record.content_type)

    def activity(record: Record) -> None:
        if not record.target.isprintable():
            raise Invalid("target", record.target, "a name of printable characters")

    checks = {"webhook": webhook, "email": email}
    deployed = {channel: check for channel, check in checks.items() if channel in e.channel_queues}
    pulled = any(ACTIVITY in CATALOGUE[workflow].channels for workflow in e.machines)
    return {**deployed, ACTIVITY: activity} if pulled else deployed


@cache
def courier() -> Courier:
    """What `deliver-<channel>` consists of."""
    w = world()
    e = env.DeliverEnv.from_env(w.environ)
    return Courier(
        store=w.store(e.table),
        queues=w.queues(e.channel_queues, e.timer_queues),
        executions=_executions(w, e),
        channel=w.channel(e.channel),
        signer=Keyring(tuple(e.capability_keys), w.secrets(e.capability_keys), e.late_window),
        teller=_teller(w, e),
        clock=w.clock,
        pause=w.pause,
        new_token=w.token,
        log=w.log,
        ack_base_url=e.ack_base_url,
        lease=e.lease_seconds * 1000,
        grace=e.sweep_grace * 1000,
        timer_cap=e.timer_cap,
        queue=e.channel,
        send_seconds=e.send_seconds,
    )


@cache
def timekeeper() -> Timekeeper:
    """What `check-ack` consists of."""
    w = world()
    e = env.CheckAckEnv.from_env(w.environ)
    return Timekeeper(
        store=w.store(e.table),
        queues=w.queues(e.channel_queues, e.timer_queues),
        teller=_teller(w, e),
        clock=w.clock,
        log=w.log,
        timer_cap=e.timer_cap,
    )


@cache
def graves() -> Graves:
    """The dead-letter queues of the queues that this function reads."""
    w = world()
    return w.graves(env.BuryingEnv.from_env(w.environ).dlqs)


@cache
def desk() -> Desk:
    """What `ack` consists of."""
    w = world()
    e = env.AckEnv.from_env(w.environ)
    return Desk(
        store=w.store(e.table),
        queues=w.queues({}, e.timer_queues),
        keyring=Keyring(tuple(e.capability_keys), w.secrets(e.capability_keys)),
        teller=_teller(w, e),
        clock=w.clock,
        new_token=w.token,
        log=w.log,
        timer_cap=e.timer_cap,
    )


@cache
def registrar() -> Registrar:
    """What `query` consists of."""
    w = world()
    e = env.QueryEnv.from_env(w.environ)
    return Registrar(store=w.store(e.table), teller=_teller(w, e), log=w.log)


@cache
def redeliverer() -> Redeliverer:
    """What `redeliver` consists of."""
    w = world()
    e = env.RedeliverEnv.from_env(w.environ)
    return Redeliverer(
        store=w.store(e.table),
        starter=_starter(w, e),
        teller=_teller(w, e),
        clock=w.clock,
        log=w.log,
        grace=e.sweep_grace * 1000,
        default_expires_in=e.default_expires_in,
    )


@cache
def sweeper() -> Sweeper:
    """What `sweep` consists of."""
    w = world()
    e = env.SweepEnv.from_env(w.environ)
    return Sweeper(
        store=w.store(e.table),
        queues=w.queues(e.channel_queues, {}),
        executions=_executions(w, e, e.channel_queues),
        teller=_teller(w, e),
        clock=w.clock,
        log=w.log,
        grace=e.sweep_grace * 1000,
        paused=e.paused_channels,
    )


@cache
def dispatcher() -> Dispatcher:
    """What `attempts` consists of."""
    w = world()
    e = env.AttemptsEnv.from_env(w.environ)
    return Dispatcher(
        store=w.store(e.table),
        queues=w.queues(e.channel_queues, {}),
        teller=_teller(w, e, asked=True),
        clock=w.clock,
        log=w.log,
    )


@cache
def settler() -> Settler:
    """What `settle` consists of."""
    w = world()
    e = env.SettleEnv.from_env(w.environ)
    return Settler(
        store=w.store(e.table),
        queues=w.queues(e.channel_queues, e.timer_queues),
        executions=_executions(w, e, e.channel_queues),
        teller=_teller(w, e, asked=True),
        clock=w.clock,
        pause=w.pause,
        log=w.log,
        timer_cap=e.timer_cap,
    )


@cache
def job_poller() -> JobPoller:
    """What `job` consists of."""
    w = world()
    e = env.JobEnv.from_env(w.environ)
    return JobPoller(
        store=w.store(e.table),
        prober=w.prober(),
        teller=_teller(w, e, asked=True),
        clock=w.clock,
        log=w.log,
        send_seconds=e.send_seconds,
    )


@cache
def push_tasks() -> Tasks:
    """The activity whose tasks `push` pulls."""
    w = world()
    return w.tasks(env.PushEnv.from_env(w.environ).push_activity)


@cache
def channel_queues() -> Queues:
    """The queues that `push` fills."""
    w = world()
    return w.queues(env.PushEnv.from_env(w.environ).channel_queues, {})


def _starter(w: World, e: env.SubmitEnv | env.RedeliverEnv) -> Starter:
    queues = w.queues(e.channel_queues, {})
    return Starter(queues=queues, executions=_executions(w, e, e.channel_queues), clock=w.clock, log=w.log)


def _executions(
    w: World, e: env.SubmitEnv | env.TellingEnv, channel_queues: Mapping[str, str] = MappingProxyType({})
) -> Executions:
    return w.executions(e.machines, channel_queues, e.heartbeat)


def _teller(w: World, e: env.TellingEnv, *, asked: bool = False) -> Teller:
    """`asked`: for an execution, which learns of an end by the answer and must not be stopped or completed for it."""
    return Teller(
        store=w.store(e.table),
        topics=w.topics(e.events_topic, e.alerts_topic),
        executions=None if asked else _executions(w, e),
        clock=w.clock,
        log=w.log,
        grace=e.sweep_grace * 1000,
        retention=e.retention,
    )
