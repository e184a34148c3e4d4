"""One stack for all tests on LocalStack, and the way that they run side by side on it.

Most of these tests wait: for a timer, a queue, a mail. So the tests of the modules marked `together("a name")` are
started at the same time, as threads, when the first of them is called; each is still reported by itself. They may ask
for no fixture but `kit`.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from handlers.delivery.signing import webhook_secret
from scripts.devices import Devices
from scripts.executions import Executions
from scripts.stack import Stack, start
from tests.localstack.contract import Contract, ContractApi
from tests.localstack.kit import Events, Faults, Kit, Log, Mails, Queues, Records, clients_of

SIDE_BY_SIDE = 16
HERE = Path(__file__).parent
# What needs a quiet stack comes first; what disturbs the others, late; what judges the whole run, last.
ORDER = (
    "test_hops", "test_isolation", "test_worker",
    # Together, "calm"; those that wait longest are started first.
    "test_faults", "test_dead_letters", "test_promise", "test_api", "test_access", "test_internal", "test_email",
    "test_stories",
    # Together, "workflows".
    "test_workflows", "test_definitions",
    # Together, "rough".
    "test_killed", "test_schedule",
    "test_losses", "test_alarms", "test_contract", "test_limits",
)  # fmt: skip


SETTINGS: dict[str, Any] = {
    "timer_cap": 2,
    "functions": {"timeout": 20},
    # Short timeouts, so that what a dead function held comes back soon: after six times as long. Little memory, which
    # one test exhausts. Few environments at a time: the machine starts them all.
    "channels": {
        "webhook": {"timeout": 6, "send_seconds": 1.8, "memory": 128, "maximum_concurrency": 4},
        "email": {"timeout": 6, "send_seconds": 1.8, "maximum_concurrency": 2},
    },
    "webhook": {"connect_timeout": 0.5, "read_timeout": 1.2},
    "timers": {"timeout": 5, "maximum_concurrency": 2},
    # Express executions show in their logs alone.
    "workflow_settings": {
        "heartbeat": 6,
        "activity_lease": 8,
        "express_log_level": "ALL",
        "include_execution_data": True,
    },
    # The tests run the sweep when they need it.
    "sweep": {"grace": 8, "rate": "rate(1 day)"},
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "together(name): the tests of all modules so marked run at the same time (LocalStack)"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> tuple[int, int]:
        if HERE not in item.path.parents:
            return 0, 0
        return 1, ORDER.index(item.path.stem)

    items.sort(key=place)


_running = pytest.StashKey[dict[str, "Future[None]"]]()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Start the tests that are marked to run together at once; then report each when it has ended."""
    group = _group(pyfuncitem)
    if group is None:
        return None
    session = pyfuncitem.session
    running = session.stash.setdefault(_running, {})
    if pyfuncitem.nodeid not in running:
        kit: Any = pyfuncitem.funcargs["kit"]
        mates = [i for i in session.items if isinstance(i, pytest.Function) and _group(i) == group]
        jobs: queue.SimpleQueue[tuple[Future[None], Callable[[], None]]] = queue.SimpleQueue()
        for mate in mates:
            future = running[mate.nodeid] = Future()
            jobs.put((future, partial(mate.obj, **_arguments(mate, kit))))
        for _ in range(min(SIDE_BY_SIDE, len(mates))):
            # Daemons: an interrupted run does not wait for its tests to give up.
            threading.Thread(target=_work, args=(jobs,), daemon=True).start()
    running[pyfuncitem.nodeid].result()
    return True


def _work(jobs: "queue.SimpleQueue[tuple[Future[None], Callable[[], None]]]") -> None:
    while not jobs.empty():
        with contextlib.suppress(queue.Empty):
            future, test = jobs.get_nowait()
            try:
                test()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)


def _group(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("together")
    return None if marker is None else str(marker.args[0])


def _arguments(item: pytest.Function, kit: Kit) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return {"kit": kit} | (dict(callspec.params) if callspec else {})


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack, applied once and gone with the session."""
    with start("test", variables=SETTINGS) as stack:
        yield stack


@pytest.fixture(scope="session")
def kit(stack: Stack) -> Iterator[Kit]:
    """Everything that the tests work with."""
    assert stack.mailbox and stack.requests, "these tests need the LocalStack package of this repository"
    clients = clients_of(stack)
    secret = clients["secretsmanager"].get_secret_value(SecretId=stack.webhook_key_secret)["SecretString"]
    with Devices(secret_for=lambda url: webhook_secret(secret, url)) as devices:
        kit = Kit(
            stack=stack,
            devices=devices,
            api=ContractApi(Contract(), stack.api_url, stack.region, stack.ack_base_url),
            queues=Queues(stack),
            records=Records(clients["dynamodb"], stack.table),
            events=Events(clients["sqs"], clients["sns"], stack.topics["events"]),
            mails=Mails(stack.mailbox),
            faults=Faults(stack),
            log=Log(stack.requests),
            executions=Executions(stack, clients["stepfunctions"], clients["logs"]),
            clients=clients,
            settings={
                "max_payload_bytes": 262_144,
                "timer_cap": SETTINGS["timer_cap"],
                "read_timeout": SETTINGS["webhook"]["read_timeout"],
                "visibility": 6 * SETTINGS["channels"]["webhook"]["timeout"],
                "timer_visibility": 6 * SETTINGS["timers"]["timeout"],
                "sweep_grace": SETTINGS["sweep"]["grace"],
                "heartbeat": SETTINGS["workflow_settings"]["heartbeat"],
                "activity_lease": SETTINGS["workflow_settings"]["activity_lease"],
            },
        )
        yield kit
        kit.close()
