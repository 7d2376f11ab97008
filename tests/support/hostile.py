"""A hostile client: a real TLS connection with a key of its own, and whatever frames a test likes.

It blocks, within a bound, and is no part of any reactor: what a peer does that keeps no rules is easier to say in the
order in which it happens.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from support.tls_peers import certificate, odd_context

from ftx.core.blocks import block_digest
from ftx.core.pairing import Binding
from ftx.disk.keys import Identity
from ftx.wire.frames import (
    AFTER_SIGN_IN,
    BEFORE_SIGN_IN,
    WHILE_PAIRING,
    FrameDecoder,
    Piece,
    after_sign_in,
    data_frames,
)
from ftx.wire.messages import (
    Accept,
    ErrorMessage,
    FileEntry,
    Hello,
    Manifest,
    Message,
    Needs,
    Offer,
    decode,
    encode,
)

__all__ = ["JOB", "Hostile", "data", "entry", "raw_frame"]

#: The id of every job it offers, unless told otherwise.
JOB = b"hostile job 0001"


def raw_frame(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A frame of any type, with a length that need not be true."""
    return struct.pack(">IB", len(body) if length is None else length, kind) + body


def entry(number: int, *path: bytes, size: int = 1, mtime: int = 1, mode: int = 0o644) -> FileEntry:
    """A file in a manifest."""
    return FileEntry(number, list(path), size, mtime, mode)


def data(number: int, block: int, content: bytes, digest: bytes | None = None) -> bytes:
    """A block as data frames."""
    return b"".join(data_frames(number, block, content, block_digest([content]) if digest is None else digest))


class Hostile:
    """One connection to the daemon at `port`, from any address of 127.0.0.0/8; use as a context manager.

    It waits for `seconds`, as long as everything else here does for a daemon that may have other work and no processor,
    and less than `limits.SILENCE`, after which the daemon would close whatever the matter is.
    """

    def __init__(
        self, port: int, identity: Identity, *, seconds: int = 20, receive_buffer: int = 0, source: str = ""
    ) -> None:
        self._socket = socket.socket()
        if source:
            self._socket.bind((source, 0))
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(seconds)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(None)
        limit = struct.pack("ll", seconds, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        key = identity.private_key
        context = odd_context(server=False, key=key, leaf=certificate(key))
        self._tls = SSL.Connection(context, self._socket)
        self._tls.set_connect_state()
        self._tls.do_handshake()
        self._decoder = FrameDecoder({**WHILE_PAIRING, **AFTER_SIGN_IN})

    def __enter__(self) -> Hostile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, *what: Message | bytes) -> None:
        """Send messages, or bytes as they are. That the daemon has closed meanwhile is no error."""
        joined = b"".join(one if isinstance(one, bytes) else encode(one) for one in what)
        with contextlib.suppress(SSL.Error, OSError):
            self._tls.sendall(joined)

    def send_until_blocked(self, what: bytes, most: int) -> int:
        """Send `what` again and again until nothing goes any more, or `most` bytes went; how many went."""
        sent = 0
        try:
            while sent < most:
                sent += self._tls.send(what)
        except (SSL.Error, OSError):
            pass
        return sent

    def hurry(self, seconds: int) -> None:
        """From now on, what nobody takes within so many seconds is not sent."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, 0))

    def close_in_order(self) -> None:
        """End TLS as the standard asks for, and close."""
        self._tls.shutdown()
        self._socket.shutdown(socket.SHUT_WR)

    def receive(self) -> Message | Piece | None:
        """The next message; None when the daemon has closed. AssertionError when nothing comes in time."""
        while True:
            item = self._decoder.next_item()
            if item is not None:
                return item if isinstance(item, Piece) else decode(item)
            try:
                got = self._tls.recv(65536)
            except SSL.WantReadError:
                raise AssertionError("the daemon neither answers nor closes") from None
            except (SSL.Error, OSError):
                return None
            if not got:
                return None
            self._decoder.feed(got)

    def until(self, kind: type[Message]) -> Any:
        """The next message of this kind."""
        while True:
            message = self.receive()
            if message is None or isinstance(message, kind):
                if message is None:
                    raise AssertionError(f"closed before a {kind.__name__}")
                return message

    def end(self) -> int | None:
        """Read until the daemon closes; the number of the error that it gave as the reason, or None."""
        number = None
        while (message := self.receive()) is not None:
            if isinstance(message, ErrorMessage):
                number = message.number
        return number

    def exported(self, label: bytes, length: int, context: bytes) -> bytes:
        """What TLS makes of them at both ends of this connection."""
        value: bytes = self._tls.export_keying_material(label, length, context)
        return value

    def binding(self, own_id: bytes) -> Binding:
        """What a pairing on this connection is bound to."""
        leaf = self._tls.get_peer_certificate(as_cryptography=True)
        if leaf is None:
            raise AssertionError("no certificate")
        spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        exported = self._tls.export_keying_material(b"EXPORTER-ftx-pairing-v1", 32, None)
        return Binding(own_id, hashlib.sha256(spki).digest(), exported)

    # -- the beginnings ------------------------------------------------------------------------------------

    def greet(self, **change: Any) -> Hello:
        """Say hello as an honest client does, but for `change`, and return the daemon's."""
        given = {
            "magic": "ftx",
            "lowest": 1,
            "highest": 1,
            "features": [],
            "name": "x",
            "software": "x",
            "signed_in": False,
        } | change
        features: Any = given["features"]
        waiting = {**BEFORE_SIGN_IN, **WHILE_PAIRING}
        self._decoder.bounds = waiting if "pairing" in features else after_sign_in(features)
        self.send(Hello(**given))  # type: ignore[arg-type]
        answer: Hello = self.until(Hello)
        return answer

    def offer(self, *into: bytes, job: bytes = JOB, conflict: int | None = None) -> Accept:
        """Offer a job, which must be accepted."""
        self.send(Offer(job, 0, list(into), conflict, None, None, None))
        answer: Accept = self.until(Accept)
        return answer

    def announce(self, entries: Sequence[Any], last: bool = True) -> None:
        """Send a manifest."""
        self.send(Manifest(list(entries), last))

    def job(self, *entries: Any, features: Sequence[str] = ()) -> Needs:
        """Greet, offer, announce, and wait for what is wanted."""
        self.greet(features=list(features))
        self.offer()
        self.announce(entries)
        answer: Needs = self.until(Needs)
        return answer
