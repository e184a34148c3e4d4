"""P1 to P7 over random histories: messages, devices, faults, crashes and purges that Hypothesis thinks of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import given, target
from hypothesis import strategies as st

from handlers.delivery.message import Status
from handlers.runtime import bootstrap
from tests.fakes.examples import examples
from tests.fakes.wire import Fault
from tests.fakes.world import START
from tests.simulation.invariants import check_promise
from tests.simulation.simulator import (
    GONE,
    GRACE,
    MINUTE,
    SECOND,
    SWEEP_PERIOD,
    SYNCHRONOUS,
    Crash,
    Reaction,
    Simulation,
    acks,
    hangs,
    install,
    nacks,
    refuses,
    silent,
)

OPERATIONS = (
    "dynamodb.put",
    "dynamodb.claim",
    "dynamodb.reclaim",
    "dynamodb.record",
    "dynamodb.get_many",
    "dynamodb.get",
    "dynamodb.end",
    "dynamodb.move",
    "dynamodb.late_ack",
    "dynamodb.claim_telling",
    "dynamodb.told",
    "dynamodb.postpone_sweep",
    "dynamodb.reopen",
    "dynamodb.overdue",
    "sqs.send",
    "sqs.entry",
    "sns.publish",
    "sns.alert",
    "secretsmanager.get",
    "cloudwatch.age",
    "channel.send",
)
TELLING = {"sns.publish", "sns.alert", "dynamodb.told", "dynamodb.end", "dynamodb.claim_telling", "dynamodb.record"}


@dataclass(frozen=True)
class Letter:
    """A message of the script."""

    schedule: tuple[int, ...]
    expires_in: int
    max_attempts: int | None
    reactions: tuple[Reaction, ...]
    keyed: bool


@dataclass(frozen=True)
class Event:
    """Something that an operator, or bad luck, does at a time."""

    at: int
    what: str
    which: int


moments_ = st.sampled_from([0, 5, 40, 700, 3_000, 14_990, 15_010, 31_000, 70_000])
reactions = st.one_of(
    st.just(silent()),
    st.just(silent()),
    st.just(refuses()),
    st.just(hangs()),
    st.just(SYNCHRONOUS),
    st.just(GONE),
    st.integers(1, 200).map(lambda s: refuses("http_503", 503, s)),
    st.lists(moments_, min_size=1, max_size=3).map(lambda times: acks(*times)),
    moments_.map(lambda at: acks(at, latency=9_000)),
    moments_.map(nacks),
    st.tuples(moments_, st.integers(1, 100)).map(lambda drawn: nacks(*drawn)),
)
schedules = st.sampled_from([(1,), (1, 2, 9), (15, 30), (3, 600), (2000,)])
letters = st.builds(
    Letter,
    schedules,
    st.sampled_from([1, 10, 61, 600, 1500]),
    st.sampled_from([None, None, 1, 2, 5]),
    st.lists(reactions, min_size=1, max_size=4).map(tuple),
    st.booleans(),
)
crashes = st.builds(
    Crash, st.sampled_from(OPERATIONS), st.sampled_from(["before", "after"]), st.integers(0, 6), st.none()
)
faults = st.builds(
    Fault,
    st.sampled_from(OPERATIONS[:-1]),
    st.sampled_from(["throttle", "timeout", "lose", "repeat"]),
    st.integers(0, 6),
    st.integers(1, 3),
)
events = st.builds(
    Event,
    st.integers(0, 200) | st.integers(0, 700_000),
    st.sampled_from(["purge timers", "purge channel", "cancel", "redeliver", "sweep"]),
    st.integers(0, 3),
)
seeds = st.integers(0, 2**32)


def play(
    patch: pytest.MonkeyPatch,
    script: Sequence[Letter],
    *,
    seed: int,
    crashing: Sequence[Crash] = (),
    failing: Sequence[Fault] = (),
    happening: Sequence[Event] = (),
    **settings: Any,
) -> Simulation:
    """Play a script to its end: until everything has expired and the sweep has seen to what is left."""
    simulation = Simulation(seed=seed, **settings)
    install(simulation, patch.setattr)
    simulation.wire.crashes += crashing
    simulation.wire.faults += failing
    for letter in script:
        fields: dict[str, Any] = {"schedule": list(letter.schedule), "expires_in": letter.expires_in}
        if letter.max_attempts is not None:
            fields["max_attempts"] = letter.max_attempts
        simulation.post(*letter.reactions, retries=3 if letter.keyed else 0, **fields)
    for event in happening:
        simulation.at(START + event.at, partial(happen, simulation, event))
    try:
        simulation.run_until(horizon(simulation, len(crashing) + len(failing) + len(happening)))
    finally:
        simulation.close()
        bootstrap.use(None)
    return simulation


def happen(simulation: Simulation, event: Event) -> None:
    ids = list(simulation.table.rows)
    if event.what == "purge timers":
        for queue in simulation.timer_queues.values():
            queue.purge()
    elif event.what == "purge channel":
        simulation.channel_queues["webhook"].purge()
    elif event.what == "sweep":
        simulation.sweep()
    elif ids and event.what == "cancel":
        simulation.cancel(ids[event.which % len(ids)])
    elif ids and event.what == "redeliver":
        simulation.redeliver(ids[event.which % len(ids)], expires_in=120)


def horizon(simulation: Simulation, troubles: int) -> int:
    """When everything must be over: every fault may cost a round of the sweep, a redelivery opens a life."""
    simulation.run_until(START + 800 * SECOND)
    last = max((row.record.expires_at for row in simulation.table.rows.values()), default=START)
    return last + (GRACE + SWEEP_PERIOD) * (3 + 2 * troubles) + 10 * MINUTE


@examples(40)
@given(script=st.lists(letters, min_size=1, max_size=4), seed=seeds)
def test_when_nothing_goes_wrong_everything_is_on_time(script: list[Letter], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        simulation = play(patch, script, seed=seed)
    assert len(simulation.accepted) == len(script)
    check_promise(simulation, faults=0, told_once=True)


@examples(40)
@given(
    script=st.lists(letters, min_size=1, max_size=3),
    seed=seeds,
    duplicates=st.sampled_from([0.1, 0.5]),
    sweeps=st.integers(1, 2),
)
def test_p5_however_often_events_are_repeated_the_effect_is_that_of_one(
    script: list[Letter], seed: int, duplicates: float, sweeps: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        simulation = play(patch, script, seed=seed, duplicates=duplicates, sweeps=sweeps, timer_cap=300)
    check_promise(simulation, faults=0, told_once=True)


@examples(120)
@given(
    script=st.lists(letters, min_size=1, max_size=3),
    seed=seeds,
    crashing=st.lists(crashes, max_size=3),
    failing=st.lists(faults, max_size=3),
    happening=st.lists(events, max_size=3),
    batch_size=st.sampled_from([1, 10]),
)
def test_whatever_goes_wrong_the_promise_holds(
    script: list[Letter],
    seed: int,
    crashing: list[Crash],
    failing: list[Fault],
    happening: list[Event],
    batch_size: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        simulation = play(
            patch,
            script,
            seed=seed,
            crashing=crashing,
            failing=failing,
            happening=happening,
            duplicates=0.05,
            timer_cap=300,
            batch_size=batch_size,
        )
    troubles: list[Crash | Fault] = [*crashing, *failing]
    hits = sum(trouble.hits for trouble in troubles)
    struck = {trouble.operation for trouble in troubles if trouble.hits}
    target(hits)
    check_promise(simulation, faults=hits + len(happening), told_once=not struck & TELLING)


@examples(30)
@given(
    reacting=st.lists(st.sampled_from([silent(), refuses(), hangs(), nacks(500, 30)]), min_size=1, max_size=3),
    schedule=st.sampled_from([(15, 30), (3, 600), (40, 300)]),
    times=st.lists(st.integers(0, 700_000), min_size=1, max_size=2),
    seed=seeds,
)
def test_p1_losing_every_hint_costs_a_round_of_the_sweep_and_no_message(
    reacting: list[Reaction], schedule: tuple[int, ...], times: list[int], seed: int
) -> None:
    letters = [Letter(schedule, 2400, None, tuple(reacting), False)] * 2
    purges = [Event(at, f"purge {what}", 0) for at in times for what in ("timers", "channel")]
    with pytest.MonkeyPatch.context() as patch:
        simulation = play(patch, letters, seed=seed, happening=purges)
    check_promise(simulation, faults=len(times), told_once=True)


@examples(12)
@given(script=st.lists(letters, min_size=5, max_size=12), seed=seeds, crash=crashes)
def test_a_batch_that_dies_whole_loses_no_message(script: list[Letter], seed: int, crash: Crash) -> None:
    with pytest.MonkeyPatch.context() as patch:
        simulation = play(patch, script, seed=seed, crashing=[crash], latency=10)
    check_promise(simulation, faults=crash.hits, told_once=crash.operation not in TELLING)


def test_the_same_seed_makes_the_same_history() -> None:
    script = [Letter((1, 2, 9), 600, None, (silent(), refuses(), acks(40, 700)), True)] * 3
    histories = []
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            simulation = play(patch, script, seed=7, crashing=[Crash("sqs.send", "after", 4)], duplicates=0.5)
        histories.append([(m.at, m.function, m.change) for m in simulation.moments])
    assert histories[0] == histories[1]
    assert len(histories[0]) > 10
    assert all(row.record.status is Status.DELIVERED for row in simulation.table.rows.values())
