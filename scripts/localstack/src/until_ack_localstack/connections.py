"""Closing a client's connection without an answer, as a network does."""

from __future__ import annotations

from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.chain import HandlerChain
from localstack.http import Response

_ENVIRON = "until_ack.twisted_request"
_MARK = "until_ack_drop"


def install() -> None:
    """Keep the server's own request object within reach of the handlers."""
    from rolo.serving import twisted

    original = twisted.update_wsgi_environment

    def remember(environ: dict[str, Any], request: Any) -> None:
        original(environ, request)
        environ[_ENVIRON] = request

    twisted.update_wsgi_environment = remember


def mark(context: RequestContext) -> None:
    """Drop the connection of this request when its handlers are done."""
    setattr(context, _MARK, True)


def lost(context: RequestContext) -> bool:
    """Return whether the client of this request has gone away."""
    request = context.request.environ.get(_ENVIRON)
    return request is not None and request.channel is None


def drop(_: HandlerChain, context: RequestContext, response: Response) -> None:
    """Finalizer: drop the connection of a marked request."""
    if not getattr(context, _MARK, False):
        return
    request = context.request.environ.get(_ENVIRON)
    if request is None:
        # A call inside LocalStack has no connection; a bare 503 is the nearest thing.
        response.status_code = 503
        response.data = b""
        return
    from twisted.internet import reactor

    reactor.callFromThread(_abort, request)


def _abort(request: Any) -> None:
    if request.channel is not None:
        request.channel.transport.abortConnection()
