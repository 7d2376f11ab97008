"""Metrics over HTTP, for a Prometheus that scrapes them: one page at an address of the operator's choice.

Whoever reaches the address may read it: counts, rates and names of errors, never a name of a peer or of a file. So it
is on the loopback interface unless the setting names another one. Twisted's web server speaks HTTP; what is bounded
here are the clients, their time, and that none of them can send anything but the head of a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from socket import AF_INET6
from typing import Any, Final

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, ITransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HTTPRequest
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from ftx import limits
from ftx.daemon.listen import Endpoint, ListeningService, parse_endpoint
from ftx.daemon.metrics import CONTENT_TYPE, exposition
from ftx.daemon.view import Metric

__all__ = ["endpoint_of", "scraping"]

_log = Logger()
_INDEX: Final = b"ftx: see /metrics\n"


def endpoint_of(text: str) -> Endpoint:
    """The endpoint that the setting `metrics` names, on the loopback interface unless it names one.

    ValueError, with a sentence, for what is none.
    """
    found = parse_endpoint(text)
    return attrs.evolve(found, interface=found.interface or ("::1" if found.family == AF_INET6 else "127.0.0.1"))


def scraping(reactor: Any, endpoint: Endpoint, measure: Callable[[], Awaitable[Sequence[Metric]]]) -> ListeningService:
    """A service that answers `GET /metrics` at `endpoint` with what `measure` gives."""
    root = _Root()
    root.putChild(b"", _Index())
    root.putChild(b"metrics", _Metrics(measure))
    site = _Site(root, timeout=limits.METRICS_TIME, reactor=reactor)
    site.requestFactory = _Bodiless
    return ListeningService([endpoint], _Few(reactor, site), reactor, option="--metrics")


class _Bodiless(Request):
    """A request that may have no body: nobody has anything to tell us here."""

    _refused = False

    def gotLength(self, length: int | None) -> None:
        """See twisted.web: the head is whole, and this is how much follows; None for chunks without end.

        The connection is gone with the end of this turn of the reactor; what came with the head is still handed over.
        """
        HTTPRequest.gotLength(self, 0)
        if length != 0:
            self._refused = True
            channel: Any = self.channel
            channel.transport.abortConnection()

    def handleContentChunk(self, data: bytes) -> None:
        """Nothing is kept of it."""

    def process(self) -> None:
        """All of it is here."""
        if not self._refused:
            super().process()


class _Channel(HTTPChannel):
    """A client's connection; silent about one that takes too long."""

    def timeoutConnection(self) -> None:
        """It was idle: whoever is does not get longer by not reading."""
        transport: Any = self.transport
        transport.abortConnection()

    forceAbortClient = timeoutConnection


class _Site(Site):
    """Silent: the log is not for clients to fill."""

    noisy = False
    protocol: Any = _Channel

    def log(self, request: Any) -> None:
        """Nothing."""


class _Brief(ProtocolWrapper):
    """A client, for `limits.METRICS_TIME` at most, however it spends them."""

    _end: IDelayedCall | None = None

    def makeConnection(self, transport: ITransport) -> None:
        """It is here."""
        factory: Any = self.factory
        self._end = factory.clock.callLater(limits.METRICS_TIME, transport.abortConnection)  # type: ignore[attr-defined]
        super().makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        if self._end is not None and self._end.active():
            self._end.cancel()
        super().connectionLost(reason)


class _Few(WrappingFactory):
    """At most `limits.METRICS_CLIENTS` of them; whoever comes then is not answered."""

    noisy = False
    protocol = _Brief

    def __init__(self, reactor: Any, site: Site) -> None:
        super().__init__(site)
        self.clock = reactor

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """One more client, if there may be one."""
        return super().buildProtocol(addr) if len(self.protocols) < limits.METRICS_CLIENTS else None


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> IResource:
        return notFound()


class _Page(Resource):
    isLeaf = True

    def render(self, request: Request) -> Any:
        """To be read, and nothing else."""
        if request.method in (b"GET", b"HEAD"):
            return super().render(request)
        request.setResponseCode(405)
        request.setHeader(b"allow", b"GET, HEAD")
        return b""


class _Index(_Page):
    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return _INDEX


class _Metrics(_Page):
    def __init__(self, measure: Callable[[], Awaitable[Sequence[Metric]]]) -> None:
        super().__init__()
        self._measure = measure

    def render_GET(self, request: Request) -> int:
        """What there is now; the disk may take a moment."""
        answering = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: answering.cancel())  # the client has gone
        answering.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        text = exposition(await self._measure()).encode()
        channel: Any = request.channel
        if channel is None:  # the client has gone meanwhile
            return
        request.setHeader(b"content-type", CONTENT_TYPE.encode())
        request.setHeader(b"content-length", str(len(text)).encode())
        request.write(text)
        request.finish()

    def _failed(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError):
            return
        _log.failure("the metrics could not be told", failure)
        request.setResponseCode(500)
        request.finish()
