"""The fixture that most tests need."""

from collections.abc import Iterator

import pytest

from handlers.runtime import bootstrap
from tests.fakes.world import MemoryWorld


@pytest.fixture
def world() -> Iterator[MemoryWorld]:
    """A world in memory, in which the handlers live for the length of a test."""
    world = MemoryWorld()
    bootstrap.use(world)
    yield world
    bootstrap.use(None)
