"""What the unit tests share."""

from tests.fakes.fixtures import world

__all__ = ["world"]
