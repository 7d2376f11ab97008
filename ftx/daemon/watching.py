"""Looking, twice a second, at what others may have changed: known peers, and rights and rules in the configuration.

What is wrong in a file changes nothing, and is said once, not at every look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from ftx.daemon.config import load
from ftx.disk.configfile import signature
from ftx.errors import FtxError
from ftx.text import plural

if TYPE_CHECKING:
    from ftx.daemon.service import Daemon

__all__ = ["Watching"]

_log = Logger()


class Watching:
    """Looks when told to, and tells the reception and the jobs of `daemon` what has changed."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._peers_problem = ""
        #: What the configuration files looked like last; the first look reads them in any case.
        self._seen: tuple[tuple[int, ...] | None, ...] | None = None

    def look(self) -> Deferred[Any] | None:
        """Look once. Fires when everything that follows has been done; never fails."""
        reception = self._daemon.reception
        if reception is None:
            return None
        if self._daemon.jobs is not None:
            self._daemon.jobs.rates.look()  # a timetable of limits may have come to its next step
        peers = reception.recheck().addCallbacks(self._readable, self._unreadable)
        rules = Deferred.fromCoroutine(self._look_at_rules()).addErrback(
            lambda failure: _log.failure("looking at the configuration failed", failure=failure)
        )
        return gatherResults([peers, rules])

    def _unreadable(self, failure: Failure) -> None:
        # The look comes back twice a second, the words only when they are others.
        reason = failure.getErrorMessage()
        if reason != self._peers_problem:
            _log.warn("peers: {reason}", reason=reason)
        self._peers_problem = reason

    def _readable(self, _: None) -> None:
        if self._peers_problem:
            _log.info("peers: the file can be read again")
        self._peers_problem = ""

    async def _look_at_rules(self) -> None:
        """Rights and rules count as soon as a configuration file says something else; a wrong one changes nothing."""
        daemon = self._daemon
        seen = await daemon.state_worker.run(signature, daemon.config.files)
        if seen == self._seen or daemon.jobs is None:
            return
        self._seen = seen
        try:
            config = await daemon.state_worker.run(load, daemon.config.request)
        except FtxError as error:
            _log.warn("the configuration was changed and is wrong, the old one stays: {why}", why=error.message)
            return
        if (config.rights, config.rule) != (daemon.config.rights, daemon.config.rule):
            daemon.config = attrs.evolve(daemon.config, rights=config.rights, rule=config.rule)
            daemon.jobs.rules = daemon.config.rules
            _log.info(
                "audit: rights and rules were read again: {peers}, {rules}",
                peers=plural(len(config.rights), "peer"),
                rules=plural(len(config.rule), "rule"),
            )
