"""What went wrong with a connection, in the words of ftx.

Twisted, OpenSSL and the kernel have some forty ways to say that a connection did not come about or ended.
`connection_failure()` turns each into an `FtxError` of the right kind, with one sentence that names the address.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure

from ftx.errors import FtxError
from ftx.text import show

__all__ = ["connection_failure"]

# errno -> (kind, sentence). The sentence is about {where}.
_BY_ERRNO: Final[dict[int, tuple[str, str]]] = {
    errno.ECONNREFUSED: ("connection-refused", "{where} refused the connection"),
    errno.ETIMEDOUT: ("connect-timeout", "{where} did not answer in time"),
    errno.ENETUNREACH: ("network-unreachable", "there is no route to {where}"),
    errno.EHOSTUNREACH: ("network-unreachable", "{where} cannot be reached"),
    errno.ENETDOWN: ("network-unreachable", "the network to {where} is down"),
    errno.EHOSTDOWN: ("network-unreachable", "{where} is down"),
    errno.EACCES: ("network-unreachable", "this system does not permit connections to {where}"),
    errno.EPERM: ("network-unreachable", "this system does not permit connections to {where}"),
    errno.EADDRNOTAVAIL: ("network-unreachable", "this machine has no address or port left to reach {where} from"),
    errno.EINVAL: ("network-unreachable", "{where} is not an address that can be connected to"),
    errno.EAFNOSUPPORT: ("network-unreachable", "this machine does not speak the protocol of {where}"),
    errno.ECONNRESET: ("connection-reset", "{where} reset the connection"),
    errno.EPIPE: ("connection-lost", "the connection to {where} was lost"),
    errno.ECONNABORTED: ("connection-lost", "the connection to {where} was lost"),
    errno.EMFILE: ("internal", "too many open files to connect to {where}"),
    errno.ENFILE: ("internal", "this system has too many open files to connect to {where}"),
    errno.ENOBUFS: ("internal", "this system has too little memory to connect to {where}"),
    errno.ENOMEM: ("internal", "this system has too little memory to connect to {where}"),
}

# The same for listening: errors of bind(2) and listen(2).
_LISTEN_BY_ERRNO: Final[dict[int, tuple[str, str]]] = {
    errno.EADDRINUSE: ("port-in-use", "{where} is in use"),
    errno.EACCES: ("listen-failed", "this system does not permit listening on {where}"),
    errno.EPERM: ("listen-failed", "this system does not permit listening on {where}"),
    errno.EADDRNOTAVAIL: ("listen-failed", "{where} is not an address of this machine"),
    errno.EAFNOSUPPORT: ("listen-failed", "this machine does not speak the protocol of {where}"),
}

# Reasons of OpenSSL (the texts of ERR_reason_error_string(3), in lower case), by what they mean here. The first
# piece that occurs decides.
_BY_REASON: Final[tuple[tuple[str, str, str], ...]] = (
    ("unexpected eof", "connection-lost", "{where} closed the connection"),
    ("bad record mac", "connection-lost", "the connection to {where} was damaged on the way"),
    ("alert no application protocol", "not-ftx", "{where} does not speak ftx"),
    ("alert protocol version", "not-ftx", "{where} does not speak TLS 1.3, so it is not ftx"),
    ("unsupported protocol", "not-ftx", "{where} does not speak TLS 1.3, so it is not ftx"),
    ("wrong version number", "not-ftx", "{where} does not speak TLS, so it is not ftx"),
    ("packet length too long", "not-ftx", "{where} does not speak TLS, so it is not ftx"),
    ("record layer failure", "not-ftx", "{where} does not speak TLS, so it is not ftx"),
    ("http request", "not-ftx", "{where} speaks HTTP, so it is not ftx"),
    ("https proxy request", "not-ftx", "{where} speaks HTTP, so it is not ftx"),
    ("did not return a certificate", "tls-failed", "{where} did not prove who it is"),
    ("certificate verify failed", "tls-failed", "the certificate of {where} is not one of ftx"),
    ("alert certificate required", "tls-failed", "{where} did not get our certificate"),
    ("alert unknown ca", "tls-failed", "{where} does not accept our certificate"),
    ("alert bad certificate", "tls-failed", "{where} does not accept our certificate"),
    ("alert unsupported certificate", "tls-failed", "{where} does not accept our certificate"),
    ("alert certificate unknown", "tls-failed", "{where} does not accept our certificate"),
    ("alert certificate expired", "tls-failed", "{where} does not accept our certificate"),
    ("alert access denied", "tls-failed", "{where} does not accept our certificate"),
)

# Exceptions without an errno of their own, most special first.
_BY_TYPE: Final[tuple[tuple[type[BaseException], str, str], ...]] = (
    (error.ConnectionRefusedError, "connection-refused", "{where} refused the connection"),
    (error.TCPTimedOutError, "connect-timeout", "{where} did not answer in time"),
    (error.TimeoutError, "connect-timeout", "{where} did not answer in time"),
    (DeferredTimeoutError, "connect-timeout", "{where} did not answer in time"),
    (TimeoutError, "connect-timeout", "{where} did not answer in time"),
    # A connect that is cancelled fails with the first; `Deferred.addTimeout` leaves it as it is.
    (error.ConnectingCancelledError, "connect-timeout", "{where} did not answer in time"),
    (CancelledError, "connect-timeout", "{where} did not answer in time"),
    (error.NoRouteError, "network-unreachable", "there is no route to {where}"),
    (error.DNSLookupError, "name-not-found", "there is no host called {where}"),
    (error.UnknownHostError, "name-not-found", "there is no host called {where}"),
    (socket.gaierror, "name-not-found", "there is no host called {where}"),
    (UnicodeError, "name-not-found", "{where} cannot be the name of a host"),
    (error.ConnectionDone, "connection-lost", "{where} closed the connection"),
    (error.ConnectionClosed, "connection-lost", "the connection to {where} was lost"),
    (SSL.ZeroReturnError, "connection-lost", "{where} closed the connection"),
    (SSL.Error, "tls-failed", "no secure connection to {where} could be made"),
    (error.ConnectError, "network-unreachable", "no connection to {where} could be made"),
)


def connection_failure(problem: Failure | BaseException, where: str) -> FtxError:
    """`problem`, which ended a connection (or an attempt to connect or to listen), as an FtxError.

    `where` is the address as a person would write it, for example `pi.local port 7389`; it is cleaned for
    display. An FtxError is returned unchanged. What is no problem of a connection becomes `internal`, with the
    name of the exception but not its text.
    """
    exception = problem.value if isinstance(problem, Failure) else problem
    if isinstance(exception, FtxError):
        return exception
    name, sentence = _kind_of(exception)
    made = FtxError(name, sentence.format(where=show(where)))
    made.__cause__ = exception  # for --debug, and for logs of our own machine
    return made


def _kind_of(exception: object) -> tuple[str, str]:
    """The kind of error and the sentence (with a place for the address) for `exception`."""
    if isinstance(exception, error.CannotListenError | error.ConnectBindError):
        cause = getattr(exception, "socketError", None) or getattr(exception, "osError", None)
        fallback = ("listen-failed", "{where} cannot be listened on")
        return _LISTEN_BY_ERRNO.get(_number(cause), fallback)
    number = _number(exception)
    if number in _BY_ERRNO:
        return _BY_ERRNO[number]
    reasons = _reasons(exception)
    for piece, name, sentence in _BY_REASON:
        if piece in reasons:
            return name, sentence
    for kind, name, sentence in _BY_TYPE:
        if isinstance(exception, kind):
            return name, sentence
    if isinstance(exception, OSError) and number > 0:
        return "connection-lost", "the connection to {where} failed: " + _literal(os.strerror(number))
    what = _literal(type(exception).__name__)
    return "internal", "something went wrong inside ftx while connected to {where} (" + what + ")"


def _number(exception: object) -> int:
    """The errno that `exception` carries, or 0.

    Twisted's connect errors keep the kernel's as `osError`, as an exception or as a number; pyOpenSSL's
    SysCallError has it as its first argument, where -1 stands for an unexpected end of file; name look-up
    errors are OSErrors whose numbers are not errnos.
    """
    if isinstance(exception, error.ConnectError):
        exception = exception.osError
    if isinstance(exception, int):
        return exception
    if isinstance(exception, SSL.SysCallError):
        first = exception.args[0] if exception.args else 0
        return first if isinstance(first, int) else 0
    if isinstance(exception, OSError) and not isinstance(exception, socket.gaierror | error.DNSLookupError):
        return exception.errno or 0
    return 0


def _reasons(exception: object) -> str:
    """The reasons in an OpenSSL error, in lower case; empty for other exceptions."""
    if not isinstance(exception, SSL.Error) or not exception.args:
        return ""
    if isinstance(exception, SSL.SysCallError):
        return str(exception.args[-1]).lower()
    entries = exception.args[0]
    return "; ".join(str(entry[-1]) for entry in entries).lower() if isinstance(entries, list) else ""


def _literal(text: str) -> str:
    """`text` so that str.format leaves it as it is."""
    return show(text).replace("{", "{{").replace("}", "}}")
