"""Simulations for the tests: each test makes its own, as it needs it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from handlers.runtime import bootstrap
from tests.simulation.simulator import Simulation, install

Simulate = Callable[..., Simulation]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulate]:
    """Make a simulation and let the handlers live in it."""
    made: list[Simulation] = []

    def make(**settings: Any) -> Simulation:
        simulation = Simulation(**settings)
        install(simulation, monkeypatch.setattr)
        made.append(simulation)
        return simulation

    yield make
    for simulation in made:
        simulation.close()
    bootstrap.use(None)


@pytest.fixture
def simulation(simulate: Simulate) -> Simulation:
    """A simulation with nothing special about it."""
    return simulate()
