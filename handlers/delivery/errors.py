"""The domain's errors. Failures are told apart by these types, never by text."""


class Invalid(ValueError):
    """A request's field is not what it may be.

    Names the field, the value that was given and the limit it breaks; `detail` says it in a sentence.
    """

    def __init__(self, field: str, value: object, limit: str, detail: str = "") -> None:
        self.field = field
        self.value = value
        self.limit = limit
        self.detail = detail or f"{field} must be {limit}"
        super().__init__(self.detail)


class TooLarge(Exception):
    """A request's body is larger than it may be; sizes in bytes (HTTP 413)."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"the body has {size} bytes; the limit is {limit} bytes")


class Conflict(Exception):
    """The request is well formed, and what is stored stands against it (HTTP 409)."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(detail)


class NotFound(Exception):
    """There is no message with that id (HTTP 404)."""


class Forbidden(Exception):
    """The caller or its capability may not do this. Deliberately carries nothing (HTTP 403)."""


class Over(Exception):
    """An execution has nothing more to ask for; `status` says how the message stands (HTTP 410)."""

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(status)


class Unreadable(ValueError):
    """A queue record that can never be processed: it goes to the dead-letter queue with `reason`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Unavailable(Exception):
    """A dependency throttled or failed; the same call may succeed later."""

    def __init__(self, service: str, code: str) -> None:
        self.service = service
        self.code = code
        super().__init__(f"{service}: {code}")


class Throttled(Unavailable):
    """A quota or rate of a dependency is used up for now."""


class Refused(Exception):
    """A dependency will not take this, now or later, as it is."""

    def __init__(self, service: str, code: str) -> None:
        self.service = service
        self.code = code
        super().__init__(f"{service}: {code}")
