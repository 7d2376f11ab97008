"""A hostile receiver: a real TLS listener with a key of its own, and whatever answers a test likes.

The other side of `support.hostile`: it blocks, within a bound, and is no part of any reactor.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

from OpenSSL import SSL
from support.tls_peers import certificate, odd_context

from ftx.core.identity import SIGN_RECEIPT
from ftx.disk.keys import Identity
from ftx.wire.frames import AFTER_SIGN_IN, WHILE_PAIRING, FrameDecoder, Piece
from ftx.wire.messages import (
    Accept,
    End,
    EntryEnd,
    FileEntry,
    FolderEntry,
    Hello,
    Manifest,
    Message,
    Offer,
    Ping,
    Pong,
    Receipt,
    ReceiptBody,
    decode,
    encode,
    encode_receipt_body,
)

__all__ = ["HostileServer", "Left"]

M = TypeVar("M", bound=Message)


class Left(Exception):
    """The client has closed the connection."""


class HostileServer:
    """Listens on a port of its own with the key `identity`, takes one connection; use as a context manager."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(20)
        self._socket: socket.socket | None = None
        self._decoder = FrameDecoder({**WHILE_PAIRING, **AFTER_SIGN_IN})
        key = identity.private_key
        self._context = odd_context(server=True, key=key, leaf=certificate(key))
        #: The offer and the entries of its manifest, once they came.
        self.offer = Offer(bytes(16), 0, [], None, None, None, None)
        self.entries: list[Any] = []

    def __enter__(self) -> HostileServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Itself as a target."""
        return f"ftx://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        """Let everything go without a word."""
        self._listening.close()
        if self._socket is not None:
            self._socket.close()

    def close_in_order(self) -> None:
        """End TLS as the standard asks for, and close."""
        self._tls.shutdown()
        self.close()

    # -- talking -------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Take the connection and finish the handshake."""
        self._socket, _ = self._listening.accept()
        self._socket.settimeout(None)
        limit = struct.pack("ll", 20, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._tls = SSL.Connection(self._context, self._socket)
        self._tls.set_accept_state()
        self._tls.do_handshake()

    def send(self, *what: Message | bytes) -> None:
        """Send messages, or bytes as they are. That the client has closed meanwhile is no error."""
        joined = b"".join(one if isinstance(one, bytes) else encode(one) for one in what)
        with contextlib.suppress(SSL.Error, OSError):
            self._tls.sendall(joined)

    def receive(self) -> Message | Piece:
        """The next message; pings are answered. Raises Left when the client has closed or says nothing for 20 s."""
        while True:
            item = self._decoder.next_item()
            if item is None:
                try:
                    self._decoder.feed(self._tls.recv(65536))
                except (SSL.Error, OSError) as error:
                    raise Left from error
                continue
            message = item if isinstance(item, Piece) else decode(item)
            if not isinstance(message, Ping):
                return message
            self.send(Pong(message.token))

    def until(self, kind: type[M]) -> M:
        """The next message of this kind."""
        while True:
            message = self.receive()
            if isinstance(message, kind):
                return message

    def end(self) -> None:
        """Read until the client has closed."""
        with contextlib.suppress(Left):
            while True:
                self.receive()

    # -- the beginnings, as an honest receiver has them ----------------------------------------------------

    def greet(self, *, name: str = "x", software: str = "x", features: Sequence[str] = ()) -> None:
        """Wait for the client's hello and answer it."""
        self.until(Hello)
        self.send(Hello("ftx", 1, 1, list(features), name, software, True))

    def offered(self, features: Sequence[str] = ()) -> Offer:
        """Greet, and wait for the offer."""
        self.greet(features=features)
        self.offer = self.until(Offer)
        return self.offer

    def job(self, features: Sequence[str] = ()) -> None:
        """Greet, accept the offer, and wait for the whole manifest."""
        self.send_accept(self.offered(features))
        while True:
            manifest = self.until(Manifest)
            self.entries += manifest.entries
            if manifest.last:
                return

    def send_accept(self, offer: Offer) -> None:
        """Accept `offer`."""
        self.send(Accept(offer.job, 2048, 4096, 2, 0))

    def number(self, name: bytes) -> int:
        """The number of the entry of this name."""
        named = (entry for entry in self.entries if isinstance(entry, FileEntry | FolderEntry))
        return next(entry.number for entry in named if entry.path[-1] == name)

    def take(self) -> None:
        """Read what was asked for until the first thing that closes a file: its last piece, or its entry-end."""
        while True:
            message = self.receive()
            if isinstance(message, EntryEnd) or (isinstance(message, Piece) and message.digest is not None):
                return

    # -- the end -------------------------------------------------------------------------------------------

    def receipt(self, **change: Any) -> None:
        """Wait for the end, and answer with a receipt that agrees but for `change`; `signature` is one, too."""
        end = self.until(End)
        self.send_receipt(
            files=end.files, folders=end.folders, bytes=end.bytes, transcript=end.transcript, **change
        )

    def send_receipt(self, *, signature: bytes | None = None, **change: Any) -> None:
        """A receipt of nothing, but for `change`."""
        fields: dict[str, Any] = {
            "job": self.offer.job,
            "sender": self._identity.id,
            "receiver": self._identity.id,
            "started": 0,
            "ended": 1,
            "files": 0,
            "identical": 0,
            "skipped": 0,
            "folders": 0,
            "failed": 0,
            "bytes": 0,
            "durability": 0,
            "transcript": bytes(32),
        } | change
        body = encode_receipt_body(ReceiptBody(**fields))
        self.send(Receipt(body, signature or self._identity.sign(SIGN_RECEIPT, body)))
