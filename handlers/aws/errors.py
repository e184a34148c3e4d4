"""botocore's errors, mapped once to the domain's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from handlers.delivery.errors import Throttled, Unavailable

_THROTTLES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "Throttling",
        "Throttled",
        "ThrottledException",
        "RequestThrottled",
        "TooManyRequestsException",
        "LimitExceededException",
    }
)


class ConditionFailed(Exception):
    """A conditional write did not go through; `item` is what stands there, if anything."""

    def __init__(self, item: Mapping[str, Any]) -> None:
        self.item = item
        super().__init__("ConditionalCheckFailedException")


def code_of(error: ClientError) -> str:
    """The error code of an answer."""
    return str(error.response.get("Error", {}).get("Code", "Unknown"))


@contextmanager
def mapped(service: str) -> Iterator[None]:
    """Raise `ConditionFailed`, `Throttled` or `Unavailable` for what botocore raises within."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code == "ConditionalCheckFailedException":
            item: Any = error.response.get("Item", {})
            raise ConditionFailed(item) from None
        raise (Throttled if code in _THROTTLES else Unavailable)(service, code) from error
    except BotoCoreError as error:
        raise Unavailable(service, type(error).__name__) from error
