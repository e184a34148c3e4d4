"""What the security tests share."""

from tests.fakes.fixtures import world

__all__ = ["world"]
