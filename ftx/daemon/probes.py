"""Probes of others: how many, under which limits, and in the log. What a probe is: `docs/protocol.md`, section 19."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from ftx.core.probing import Allowance
from ftx.core.trust import Trusted
from ftx.daemon.rates import Rates
from ftx.errors import FtxError
from ftx.net.probing import Probed
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.messages import Probe, ProbeKind, Refuse

__all__ = ["Probes"]

_log = Logger()


class Probes:
    """What a daemon does about probes. `write_disk` writes so many bytes beside the inbox and gives the seconds."""

    def __init__(self, reactor: Any, worker: Worker, rates: Rates, write_disk: Callable[[int], float]) -> None:
        #: Whether the operator lets others measure at all; counts for connections that sign in from now on.
        self.wanted = True
        self._reactor = reactor
        self._worker = worker
        self._rates = rates
        self._write_disk = write_disk
        self._allowance = Allowance()

    async def asked(self, connection: Connection, probe: Probe, trusted: Trusted) -> None:
        """Take part in a probe, under the rate limits of that peer, or refuse it."""
        try:
            self._allowance.take(trusted.id, self._reactor.seconds())
        except FtxError as error:
            _log.info("a probe of {peer} was refused: {reason}", peer=show(trusted.name), reason=error.message)
            connection.send(Refuse(probe.job, error.number))
            return
        incoming, outgoing = self._rates.begin(trusted, None)
        counts = incoming if probe.kind == ProbeKind.UP else outgoing if probe.kind == ProbeKind.DOWN else ()
        connection.limit(incoming, outgoing)
        try:
            rate = min((limit.rate for limit in counts if limit.rate), default=0)
            _log.info("{peer} measures: {what}", peer=show(trusted.name), what=probe.kind.name.lower())
            await Probed(connection, probe, rate, self._worker, self._write_disk).run()
        finally:
            connection.unlimited()
            self._allowance.give_back()
