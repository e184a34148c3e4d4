"""The activity channel: nothing is sent, workers pull."""

from handlers.delivery.channel import Kind, Outcome, Parcel


class Pulled:
    """A channel whose messages are fetched: an attempt that is asked for by a queue reaches nobody."""

    def send(self, parcel: Parcel, deadline_seconds: float) -> Outcome:
        """See `Channel.send`."""
        return Outcome(Kind.FAILED, "pulled_only")
