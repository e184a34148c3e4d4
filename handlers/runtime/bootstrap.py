"""The one composition root: what each function consists of, built once per execution environment.

`World` is everything outside a function; tests put another one in its place with `use`.
"""

import os
import secrets
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Protocol

# Not where they are first needed: Lambda's Init has a whole processor for imports, an invocation its memory's share.
import boto3
from botocore.config import Config

from handlers.delivery.answering import Desk
from handlers.delivery.attempting import Courier
from handlers.delivery.capability import Keyring
from handlers.delivery.channel import Channel
from handlers.delivery.managing import Redeliverer, Registrar
from handlers.delivery.message import Policy, Record
from handlers.delivery.ports import Log, Queues, Store, Topics
from handlers.delivery.submitting import Intake
from handlers.delivery.sweeping import Sweeper
from handlers.delivery.telling import Teller
from handlers.delivery.timing import Timekeeper
from handlers.runtime import env


class Graves(Protocol):
    """Where records go that can never be processed."""

    def bury(self, source_arn: str, body: str, reason: str) -> None:
        """Send a record to the dead-letter queue of the queue that it came from."""
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

    def graves(self, dlqs: Mapping[str, str]) -> Graves:
        """The dead-letter queues' URLs, by their source queues' ARNs."""
        ...

    def secrets(self, arns: Mapping[str, str]) -> Callable[[str], bytes]:
        """Secrets by name."""
        ...

    def channel(self, name: str) -> Channel:
        """A channel, as its environment describes it."""
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


def _webhook(world: World) -> Channel:
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


_CHANNELS: Mapping[str, Callable[[World], Channel]] = {"webhook": _webhook, "email": _email}


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
    for part in (intake, courier, timekeeper, graves, desk, registrar, redeliverer, sweeper):
        part.cache_clear()


@cache
def intake() -> Intake:
    """What `submit` consists of."""
    w = world()
    e = env.SubmitEnv.from_env(w.environ)
    return Intake(
        store=w.store(e.table),
        queues=w.queues(e.channel_queues, {}),
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

    return {"webhook": webhook, "email": email}


@cache
def courier() -> Courier:
    """What `deliver-<channel>` consists of."""
    w = world()
    e = env.DeliverEnv.from_env(w.environ)
    return Courier(
        store=w.store(e.table),
        queues=w.queues(e.channel_queues, e.timer_queues),
        channel=w.channel(e.channel),
        signer=Keyring(tuple(e.capability_keys), w.secrets(e.capability_keys), e.late_window),
        teller=_teller(w, e),
        clock=w.clock,
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
        queues=w.queues(e.channel_queues, {}),
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
        teller=_teller(w, e),
        clock=w.clock,
        log=w.log,
        grace=e.sweep_grace * 1000,
        paused=e.paused_channels,
    )


def _teller(w: World, e: env.TellingEnv) -> Teller:
    return Teller(
        store=w.store(e.table),
        topics=w.topics(e.events_topic, e.alerts_topic),
        clock=w.clock,
        log=w.log,
        grace=e.sweep_grace * 1000,
        retention=e.retention,
    )
