"""The scheduled reconciler: takes over what is overdue, tells what is untold."""

from typing import Any

from handlers.runtime import bootstrap
from handlers.runtime.env import SweepEnv


def handler(event: Any, context: Any) -> dict[str, int]:
    """Sweep once; returns what was done, counted by kind."""
    limit = SweepEnv.from_env(bootstrap.world().environ).sweep_limit
    return bootstrap.sweeper().sweep(limit).counts
