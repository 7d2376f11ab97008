"""Pairing by code: SPAKE2 and the proof that binds it to one TLS session (`docs/protocol.md`, section 15).

Theory. A code has 16 bits, so whoever could try codes, or test a recorded exchange against all of them, would have it.
SPAKE2 (RFC 9382) gives both ends a strong key if they used the same code, and whoever was active in the exchange
exactly one guess; with a code that is good for one exchange, that is one guess in all. Two things are bound to the
result: both identities, which are inputs of SPAKE2, and the TLS session, whose exporter value is in both proofs. A
relay that shows each end its own certificate has two sessions, two exporter values, and cannot make a right proof for
either. The client proves first: a server that is asked by a guesser says nothing that confirms a guess.

The `spake2` package computes in Python and not in constant time. Its times could tell something about a code that is
void by the time they are measured. Elements are checked for their length before it sees them; whatever it raises for
a hostile one is one ProtocolError here. Each machine is used once, in one thread at a time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import attrs
import spake2
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ftx import limits
from ftx.core.identity import same
from ftx.core.table import Table, advance
from ftx.errors import FtxError, ProtocolError
from ftx.wire.messages import Message, PairConfirm, PairDone, PairReply, PairStart

__all__ = ["CLIENT_TABLE", "EXPORTER", "SERVER_TABLE", "Binding", "PairingClient", "PairingServer", "PairingState"]

#: The label and the length in bytes of the TLS exporter value (RFC 8446, section 7.5).
EXPORTER: Final = (b"EXPORTER-ftx-pairing-v1", 32)
_INFO: Final = b"ftx pairing v1 "

#: Random bytes: `entropy(n)` gives n of them. None: the system's.
Entropy = Callable[[int], bytes] | None


class PairingState(Enum):
    """Where one end of an exchange stands."""

    #: Nothing was said.
    READY = 1
    #: The client's element is out; the server's is awaited.
    STARTED = 2
    #: Both elements are out; the next thing is a proof.
    PROVING = 3
    #: The client's proof is out; the server's is awaited.
    PROVED = 4
    #: Both proofs were right.
    PAIRED = 5


CLIENT_TABLE: Table[PairingState] = {
    PairingState.READY: {PairStart: PairingState.STARTED},
    PairingState.STARTED: {PairReply: PairingState.PROVING},
    PairingState.PROVING: {PairConfirm: PairingState.PROVED},
    PairingState.PROVED: {PairDone: PairingState.PAIRED},
}
SERVER_TABLE: Table[PairingState] = {
    PairingState.READY: {PairStart: PairingState.STARTED},
    PairingState.STARTED: {PairReply: PairingState.PROVING},
    PairingState.PROVING: {PairConfirm: PairingState.PROVED},
    PairingState.PROVED: {PairDone: PairingState.PAIRED},
}


@attrs.frozen
class Binding:
    """What a pairing is bound to: both identities as TLS proved them, and the session's exporter value."""

    client: bytes
    server: bytes
    exporter: bytes = attrs.field(repr=False)


@attrs.define(eq=False)
class _Side:
    """What both ends do alike. `code` is in the form of `parse_code`."""

    code: str = attrs.field(repr=False)
    binding: Binding
    entropy: Entropy = attrs.field(default=None, repr=False)
    state: PairingState = attrs.field(default=PairingState.READY, init=False)
    _elements: list[bytes] = attrs.field(factory=list, init=False, repr=False)
    _key: bytes = attrs.field(default=b"", init=False, repr=False)

    def _begin(self, side: str) -> tuple[Any, bytes]:
        """A SPAKE2 machine of that side, and its element."""
        more = {} if self.entropy is None else {"entropy_f": self.entropy}
        kind = getattr(spake2, f"SPAKE2_{side}")
        machine = kind(self.code.encode("ascii"), idA=self.binding.client, idB=self.binding.server, **more)
        return machine, machine.start()

    def _finish(self, machine: Any, element: bytes) -> None:
        """Take the other side's element; ProtocolError for one that is none."""
        if len(element) != limits.PAIRING_ELEMENT:
            raise ProtocolError("bad-message", "a pairing element had a wrong length")
        try:
            self._key = machine.finish(element)
        except Exception as error:
            # The neutral element, one of no curve or of a small group, our own sent back, one of our own side: each has
            # a class of its own in some module of the package, and hostile input must not find one that is missed here.
            raise ProtocolError("bad-message", "a pairing element was not acceptable") from error

    def _proof(self, role: str) -> bytes:
        key = HKDF(SHA256(), 32, salt=None, info=_INFO + role.encode("ascii")).derive(self._key)
        return hmac.digest(key, b"".join((self.binding.exporter, *self._elements)), "sha256")

    def _check(self, role: str, proof: bytes) -> None:
        if not same(proof, self._proof(role)):
            raise FtxError("wrong-code")


class PairingClient(_Side):
    """The end that types the code: `start`, `confirm`, `finish`, in this order."""

    _machine: Any = None

    def start(self) -> PairStart:
        """The first message. Takes some milliseconds, as `confirm` does."""
        self._step(PairStart)
        self._machine, element = self._begin("A")
        self._elements.append(element)
        return PairStart(element)

    def confirm(self, reply: PairReply, port: int = 0) -> PairConfirm:
        """The answer to the server's element; `port` is that of a daemon of ours, 0 for none.

        ProtocolError for an element that is not acceptable, and when it is not the time for this.
        """
        self._step(PairReply)
        self._finish(self._machine, reply.element)
        self._elements.append(reply.element)
        self._step(PairConfirm)
        return PairConfirm(self._proof("client"), port)

    def finish(self, done: PairDone) -> None:
        """The server's proof: FtxError `wrong-code` unless it is right, ProtocolError when it is not the time."""
        self._step(PairDone)
        self._check("server", done.proof)

    def _step(self, event: type[Message]) -> None:
        self.state = advance(CLIENT_TABLE, self.state, event)


class PairingServer(_Side):
    """The end that shows the code: `reply`, `verify`, and, when the client's key is stored, `done`."""

    def reply(self, start: PairStart) -> PairReply:
        """The answer to the client's element. Takes some milliseconds.

        ProtocolError for an element that is not acceptable, and when it is not the time for this.
        """
        self._step(PairStart)
        machine, element = self._begin("B")
        self._finish(machine, start.element)
        self._elements += [start.element, element]
        self._step(PairReply)
        return PairReply(element)

    def verify(self, confirm: PairConfirm) -> None:
        """The client's proof: FtxError `wrong-code` unless it is right, ProtocolError when it is not the time."""
        self._step(PairConfirm)
        self._check("client", confirm.proof)

    def done(self) -> PairDone:
        """Our own proof, for a client that has shown its own."""
        self._step(PairDone)
        return PairDone(self._proof("server"))

    def _step(self, event: type[Message]) -> None:
        self.state = advance(SERVER_TABLE, self.state, event)
