"""Real workers on the activity: killed in the middle of a task, stopped in good order, and long away."""

import os
import signal
from pathlib import Path

from scripts.devices import Device, acks, silent
from tests.localstack.kit import Kit, always, eventually, numbers

SCHEDULE = [90]
"""One delay that no test waits for: what comes sooner is the task that is retried."""


def submit(kit: Kit, device: Device) -> str:
    """A message that only a worker can bring to its device."""
    return kit.submit(
        device.name, channel="activity", scheduler="workflow", workflow="delivery_activity", schedule=SCHEDULE
    )


def test_a_worker_that_is_killed_with_its_task_in_hand(kit: Kit, tmp_path: Path) -> None:
    started = tmp_path / "started"
    device = kit.device(acks())
    with kit.worker("--command", f"sh -c 'touch {started}; exec sleep 60'") as first:
        message_id = submit(kit, device)
        eventually(started.exists, within=60, what="the task in the worker's hand")
        taken = kit.records.get(message_id)
        assert (taken.attempt, taken.attempts[0].outcome) == (1, None)
        os.killpg(first.pid, signal.SIGKILL)
        assert first.wait(10) == -signal.SIGKILL
    assert device.receipts == []
    with kit.worker("--url", kit.at_devices):
        # No heartbeat comes: the task is given to the next worker, and attempt 1 is taken over after its lease.
        message = kit.ends(message_id, "DELIVERED", within=80)
        eventually(lambda: kit.records.get(message_id).attempts[0].outcome, what="the outcome")
    assert numbers(device.receipts) == [1]
    assert [attempt["n"] for attempt in message["attempts"]] == [1]
    assert kit.records.get(message_id).claims == 2
    execution = kit.executions.get("delivery_activity", message_id)
    assert execution is not None
    assert execution.output["status"] == "DELIVERED"


def test_a_worker_that_is_told_to_stop_finishes_what_it_has(kit: Kit, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    device = kit.device(silent())
    wait = f"touch {started}; while ! [ -e {go} ]; do sleep 0.1; done; exit 10"
    with kit.worker("--command", f'sh -c "{wait}"', "--drain-seconds", "30") as worker:
        message_id = submit(kit, device)
        eventually(started.exists, within=60, what="the task in the worker's hand")
        worker.terminate()
        always(lambda: worker.poll() is None, during=1, what="the worker at its task")
        go.touch()
        assert worker.wait(60) == 0
    # The command's exit code 10 acknowledged at once.
    message = kit.ends(message_id, "DELIVERED")
    assert [attempt["outcome"] for attempt in message["attempts"]] == ["ACKED"]


def test_a_message_waits_for_a_worker_that_is_away(kit: Kit) -> None:
    device = kit.device(acks())
    message_id = submit(kit, device)
    always(lambda: kit.records.get(message_id).attempt == 0, during=3, what="no attempt without a worker")
    with kit.worker("--url", kit.at_devices):
        kit.ends(message_id, "DELIVERED", within=60)
    assert numbers(device.receipts) == [1]
