"""TLS as bytes in, records out: OpenSSL between two memory buffers, without a socket and without a reactor.

`Records` is fed what was read from the network and asked for what is in it; it takes plaintext and is asked for what is
to be written to the network. Who does the reading and writing is `ftx.net.secure`.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from OpenSSL import SSL

from ftx import limits

__all__ = ["Records"]

#: Plaintext bytes of a TLS record (RFC 8446 section 5.1); one SSL_read(3) gives at most one.
_RECORD: Final = 16 * 1024
#: Where records are opened one behind the other, before they leave as one: all in the reactor's thread. There is room
#: for all that can be in a slice of ciphertext and in the beginning of a record that came before it.
_OPENED: Final = bytearray(limits.READ_SLICE + 2 * _RECORD)
_OPENED_VIEW: Final = memoryview(_OPENED)
_ROOM: Final = len(_OPENED) - _RECORD
#: Where ciphertext lies from when OpenSSL gives it until the socket has it, or it is copied.
_SEALED: Final = bytearray(limits.SEALED)
_SEALED_VIEW: Final = memoryview(_SEALED)


class _Binding(NamedTuple):
    """What is asked of OpenSSL itself: SSL_read(3) and so on, and where their buffers begin."""

    read: Any
    write: Any
    give: Any
    take: Any
    error: Any
    want_read: int
    begin: Any
    opened: Any
    sealed: Any


def _binding() -> _Binding | None:
    """OpenSSL as pyOpenSSL has it; None where pyOpenSSL keeps its binding elsewhere."""
    # The buffers themselves: a view that the binding held ended an interpreter, at its end, with SIGSEGV.
    try:
        from OpenSSL._util import ffi, lib

        begin = ffi.from_buffer
        return _Binding(
            read=lib.SSL_read,
            write=lib.SSL_write,
            give=lib.BIO_write,
            take=lib.BIO_read,
            error=lib.SSL_get_error,
            want_read=lib.SSL_ERROR_WANT_READ,
            begin=begin,
            opened=begin(_OPENED),
            sealed=begin(_SEALED),
        )
    except (ImportError, AttributeError):
        return None


# `Connection.recv` makes a buffer for each record, asks how it went and copies twice: with a dozen calls of Python for
# each and twice as many fights for the interpreter lock, that took an eighth of a receiver's processor time; and
# `bio_read` makes a buffer each time and copies twice. So what is plain success, or that there is no more for now, is
# taken from OpenSSL itself, and everything else is left to pyOpenSSL.
_BINDING = _binding()


class Opened(NamedTuple):
    """What has come: the content of so many records, joined."""

    content: bytes
    records: int
    #: How the connection ended with them, if it did.
    ended: SSL.Error | None
    #: Whether there may be more.
    more: bool


class Records:
    """One end of a TLS connection. SSL.Error, from any method, says how it ended; nothing but `sealed` follows it."""

    def __init__(self, connection: SSL.Connection, *, client: bool) -> None:
        #: The OpenSSL connection, for questions about the peer.
        self.connection = connection
        #: Whether the handshake is complete.
        self.complete = False
        #: Bytes of plaintext that wait to be encrypted.
        self.waiting = 0
        #: Whether our closing alert was made.
        self.closed = False
        self._ssl: Any = getattr(connection, "_ssl", None)
        self._arriving: Any = getattr(connection, "_into_ssl", None)
        self._ciphertext: Any = getattr(connection, "_from_ssl", None)
        self._openssl = None if None in (self._ssl, self._arriving, self._ciphertext) else _BINDING
        self._queue: deque[memoryview] = deque()
        if client:
            connection.set_connect_state()
        else:
            connection.set_accept_state()

    def feed(self, data: memoryview) -> None:
        """What was read from the network; nothing for its end. It is copied."""
        openssl, size = self._openssl, len(data)
        if not size:
            self.connection.bio_shutdown()
        elif openssl is None or openssl.give(self._arriving, openssl.begin(data), size) <= 0:
            self.connection.bio_write(data)

    def shake_hands(self) -> bool:
        """Go on with the handshake as far as that is possible; whether it is complete."""
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        self.complete = True
        return True

    def opened(self, most: int) -> Opened:
        """The records that have come, at most `most` of them."""
        at = count = 0
        receive, ssl, openssl = self.connection.recv_into, self._ssl, self._openssl
        read: Any = None if openssl is None else openssl.read
        start: Any = None if openssl is None else openssl.opened
        ended, more = None, True
        try:
            while count < most and at <= _ROOM:
                size = 0 if read is None else read(ssl, start + at, _RECORD)
                if size < 0 and openssl is not None and openssl.error(ssl, size) == openssl.want_read:
                    more = False
                    break
                at += size if size > 0 else receive(_OPENED_VIEW[at:], _RECORD)
                count += 1
        except SSL.WantReadError:
            more = False
        except SSL.Error as error:
            # its frames would keep this one alive, and the connection with it
            ended, more = error.with_traceback(None), False
        return Opened(bytes(_OPENED_VIEW[:at]), count, ended, more)

    def write(self, data: bytes | memoryview) -> None:
        """Plaintext for the peer, by reference: it must not change until it is encrypted."""
        self._queue.append(memoryview(data))
        self.waiting += len(data)

    def seal(self, most: int = limits.WRITE_SLICE) -> int:
        """Encrypt what waits, at most `most` bytes of it; returns how many.

        While more waits records are filled: each costs both ends the same, however little is in it.
        """
        queue, room = self._queue, most
        while queue and room > 0:
            data = queue.popleft()
            if len(data) < _RECORD and queue:
                data = self._joined(data)
            size = min(len(data), room)
            if size > _RECORD and (queue or size < len(data)):
                size -= size % _RECORD
            if size < len(data):
                queue.appendleft(data[size:])
                data = data[:size]
            self._encrypt(data, size)
            room -= size
        done = most - room
        self.waiting -= done
        return done

    def _encrypt(self, data: memoryview, size: int) -> None:
        """Have all of `data` encrypted: a context of ours leaves out no part of it."""
        openssl = self._openssl
        if openssl is None or openssl.write(self._ssl, openssl.begin(data), size) <= 0:
            self.connection.send(data)

    def _joined(self, data: memoryview) -> memoryview:
        """`data` and what follows it, as much as fits into one record."""
        parts, room, queue = [data], _RECORD - len(data), self._queue
        while queue and room > 0:
            following = queue.popleft()
            if len(following) > room:
                queue.appendleft(following[room:])
                following = following[:room]
            parts.append(following)
            room -= len(following)
        return memoryview(b"".join(parts))

    def sealed(self) -> memoryview | None:
        """The next bytes for the network, at most `limits.SEALED`; None when there are none.

        They stay until any connection is asked for the next.
        """
        openssl = self._openssl
        if openssl is not None:
            size = openssl.take(self._ciphertext, openssl.sealed, len(_SEALED))
            if size > 0:
                return _SEALED_VIEW[:size]
        try:
            return memoryview(self.connection.bio_read(limits.SEALED))
        except SSL.WantReadError:
            return None

    def close(self) -> None:
        """Make the closing alert (RFC 8446 section 6.1); it is to be sent like everything else."""
        self.closed = True
        self.connection.shutdown()

    def clear(self) -> None:
        """Let go of what waits: nobody will have it any more."""
        self._queue.clear()
        self.waiting = 0
