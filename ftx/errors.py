"""Every failure ftx can report: one table, used on the wire, the control socket, in `--json` and as exit codes.

An error is a *kind* (a stable kebab-case name and a number) plus, on the side that shows it, a sentence and a
hint. Only the number crosses the wire: text for people is made where it is shown, so a peer can neither inject
text nor read ours. The number is `exit code x 100 + n`; numbers and names are frozen, new ones are appended.

Raise `FtxError` (or one of its three subclasses, which say whose fault it is) with a kind from `KINDS`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs

__all__ = [
    "KINDS",
    "Error",
    "ErrorKind",
    "FtxError",
    "LocalProtocolError",
    "ProtocolError",
    "StartupError",
    "kind",
    "kind_by_number",
    "kind_from_peer",
]


@attrs.frozen
class ErrorKind:
    """One row of the table: what happened, as every door of ftx names it."""

    name: str
    number: int
    sentence: str
    hint: str = ""

    @property
    def exit_code(self) -> int:
        """The process exit code this kind leads to (0 to 143)."""
        return self.number // 100


#: A receiver needs a moment to notice that the other end of a connection has gone.
_BUSY_HINT: Final = "try again in a second; if it stays so, wait for the other transfer"

_TABLE: Final = (
    # -- 1 internal -------------------------------------------------------------------------------------
    ErrorKind("internal", 101, "something went wrong inside ftx", "run again with --debug and report what it prints"),
    ErrorKind("port-in-use", 102, "the port is in use", "stop the other program or use --listen tcp:PORT"),
    ErrorKind("already-running", 103, "another ftx daemon uses this home", "stop it, or give this one its own --home"),
    ErrorKind("home-unusable", 104, "the home folder cannot be used", "check that it is yours and writable"),
    ErrorKind("inbox-unusable", 105, "the inbox cannot be used", "check that it is a folder of yours and writable"),
    ErrorKind("listen-failed", 106, "the address cannot be listened on", "check --listen"),
    ErrorKind("control-unusable", 107, "the control socket cannot be made", "check --control, or use --no-control"),
    # -- 2 usage ----------------------------------------------------------------------------------------
    ErrorKind("usage", 201, "the command line cannot be understood", "see ftx-client --help"),
    ErrorKind("config-invalid", 202, "the configuration is not valid", "mend the named key, or remove it"),
    ErrorKind("bad-target", 203, "the target cannot be understood", "write NAME:, HOST:, [IPv6]: or ftx://HOST:PORT"),
    ErrorKind("duplicate-name", 204, "two sources have the same name", "send them one after the other with --into"),
    ErrorKind("unknown-method", 205, "there is no such method", "ftx-client ctl call (rpc.discover) lists them"),
    ErrorKind("bad-parameters", 206, "the parameters are not valid", "rpc.discover shows what the method takes"),
    ErrorKind("bad-request", 207, "the request cannot be understood", "one JSON object or one method name per line"),
    ErrorKind("no-such-job", 208, "there is no such job", "ftx-client ctl jobs (jobs.list) shows the jobs there are"),
    ErrorKind("no-such-peer", 209, "there is no such peer", "ftx-client peers list shows the paired ones"),
    ErrorKind("name-taken", 210, "another peer has that name", "choose another name, or remove the other peer first"),
    ErrorKind("bad-identity", 211, "that is not an ftx identity", "copy what `ftx-client id` prints, whole"),
    ErrorKind("job-over", 212, "the job is over already", "ftx-client ctl jobs (jobs.show) tells how it ended"),
    # -- 3 local-io -------------------------------------------------------------------------------------
    ErrorKind("source-missing", 301, "the source does not exist", "check the path"),
    ErrorKind("source-unreadable", 302, "the source cannot be read", "check its permissions"),
    ErrorKind("source-changed", 303, "the source changed while it was read", "send it again when it is at rest"),
    ErrorKind("source-vanished", 304, "the source disappeared while it was sent"),
    ErrorKind("special-file", 305, "not a regular file or folder", "links, devices, pipes and sockets are skipped"),
    ErrorKind("local-io", 306, "a local file operation failed"),
    ErrorKind("local-no-space", 307, "the local disk is full", "free some space"),
    ErrorKind("key-unusable", 308, "the identity key cannot be used", "it must be yours and mode 0600"),
    ErrorKind("state-unusable", 309, "a state file cannot be used", "see the message for the file"),
    # -- 4 unreachable ----------------------------------------------------------------------------------
    ErrorKind(
        "connection-refused",
        401,
        "connection refused",
        "is the daemon running there? start it with: ftx-server; if it has another port: -p PORT",
    ),
    ErrorKind("connect-timeout", 402, "no answer in time", "check the address, the port and firewalls on the way"),
    ErrorKind("name-not-found", 403, "no such peer or host", "ftx-client discover shows who is here"),
    ErrorKind("connection-lost", 404, "the connection was lost", "run the same command again to resume"),
    ErrorKind("peer-silent", 405, "the peer stopped answering", "run the same command again to resume"),
    ErrorKind("network-unreachable", 406, "the network cannot be reached", "check the cable, the Wi-Fi or the route"),
    ErrorKind("connection-reset", 407, "the peer reset the connection", "run the same command again to resume"),
    ErrorKind("peer-stopping", 408, "the peer is shutting down", "run the same command again when it is back"),
    ErrorKind("ambiguous-name", 409, "several peers have that name", "use an address, or pair and name them"),
    # -- 5 untrusted ------------------------------------------------------------------------------------
    ErrorKind(
        "untrusted",
        501,
        "the peer does not know this machine's key",
        "pair the two: ftx-client pair --open there, then ftx-client pair NAME here; or by id, on the peer: ftx-client "
        "peers add NAME ID, with the id that `ftx-client id` prints here",
    ),
    ErrorKind(
        "unknown-peer",
        502,
        "the peer's key is not paired here",
        "if you know it, pair the two: ftx-client pair --open there, then ftx-client pair NAME here; or by id, here: "
        "ftx-client peers add NAME ID ADDRESS, with the id that `ftx-client id` prints there",
    ),
    ErrorKind(
        "key-changed",
        503,
        "the peer answered with another key than the one paired",
        "if it was reinstalled: ftx-client peers remove NAME, then ftx-client pair NAME",
    ),
    ErrorKind(
        "identity-copied",
        504,
        "the peer uses this machine's own key from another address",
        "make it a new key there with ftx-client id --renew, or allow it with own_key = \"anywhere\"",
    ),
    ErrorKind("not-authorised", 505, "not permitted"),
    ErrorKind("tls-failed", 506, "no secure connection could be made", "is there an ftx daemon on that port?"),
    ErrorKind(
        "wrong-code",
        507,
        "the pairing code was wrong, or somebody stands between the two machines",
        "each code is good for one attempt: open another window there with ftx-client pair --open",
    ),
    ErrorKind(
        "pairing-closed",
        508,
        "no pairing window is open there",
        "on the other machine: ftx-client pair --open",
    ),
    # -- 6 refused --------------------------------------------------------------------------------------
    ErrorKind("refused", 601, "the peer's rules refuse this", "its log names the rule: ask whoever runs it"),
    ErrorKind("denied", 602, "the peer's user said no", "ask them, then send it again"),
    ErrorKind("approval-timeout", 603, "nobody approved in time", "send it again when somebody is there to say yes"),
    ErrorKind("quota", 604, "the quota is used up", "try again tomorrow, or ask whoever runs the peer for more"),
    ErrorKind("busy", 605, "the peer is busy with the same files", _BUSY_HINT),
    ErrorKind("no-space", 606, "the receiver has too little space", "free some space there, then run this again"),
    ErrorKind(
        "exists",
        607,
        "the name is taken by other content there",
        "send it into another folder; --conflict rename keeps both, where the receiver allows it",
    ),
    ErrorKind("bad-name", 608, "the receiver does not accept the name", "rename it and send it again"),
    ErrorKind("over-offer", 609, "more was sent than was offered"),
    ErrorKind("storage-failed", 610, "the receiver could not store it", "see the receiver's log"),
    ErrorKind("not-supported", 611, "the peer does not support this", "its version may be older than this one"),
    ErrorKind("superseded", 612, "a newer connection took over this job", "that one goes on with it: nothing is lost"),
    ErrorKind("too-large", 613, "larger than the receiver accepts", "ask whoever runs it"),
    ErrorKind("cancelled", 614, "cancelled by the peer", "ask them, then run the same command again to resume"),
    ErrorKind(
        "not-shared",
        615,
        "there is no such share or path there, or not for this machine",
        "ftx-client ls, with the machine and a colon, lists what there is",
    ),
    # -- 7 digest-mismatch ------------------------------------------------------------------------------
    ErrorKind("digest-mismatch", 701, "the content did not verify", "send it again"),
    ErrorKind("receipt-invalid", 702, "the receipt is not what was signed", "look for another copy of it"),
    # -- 8 protocol -------------------------------------------------------------------------------------
    ErrorKind("protocol-error", 801, "the peer broke the protocol"),
    ErrorKind("no-common-version", 802, "no common protocol version", "update the older side"),
    ErrorKind("not-ftx", 803, "what answers there does not speak ftx", "check the port"),
    ErrorKind("frame-too-large", 804, "a frame was larger than allowed"),
    ErrorKind("wrong-state", 805, "a message came at the wrong time"),
    ErrorKind("bad-message", 806, "a message could not be understood"),
    ErrorKind("unknown-frame", 807, "an unknown type of frame came"),
    ErrorKind("hello-timeout", 808, "the peer did not introduce itself in time"),
    # -- 9 and up ---------------------------------------------------------------------------------------
    ErrorKind("partial", 901, "some files failed", "run the same command again to retry them"),
    ErrorKind("timeout", 1001, "the time set with --timeout ran out", "run the same command again to resume"),
    ErrorKind(
        "none-found",
        1101,
        "nobody answered",
        "is a daemon running there? same network? UDP port 7389 open? or name its address",
    ),
    ErrorKind("no-daemon", 1201, "no ftx daemon is running for this user", "start it with: ftx-server"),
    ErrorKind("interrupted", 13001, "interrupted", "run the same command again to resume"),
    ErrorKind("terminated", 14301, "terminated", "run the same command again to resume"),
)

KINDS: Final[dict[str, ErrorKind]] = {row.name: row for row in _TABLE}
_BY_NUMBER: Final[dict[int, ErrorKind]] = {row.number: row for row in _TABLE}


def kind(name: str) -> ErrorKind:
    """The row called `name`; an unknown name is our own mistake and raises KeyError."""
    return KINDS[name]


def kind_by_number(number: int) -> ErrorKind:
    """The row with the wire number `number`.

    A newer peer may know numbers that we do not: those keep their family (`number // 100`), so that the exit
    code is still right, under the family's first name.
    """
    known = _BY_NUMBER.get(number)
    if known is not None:
        return known
    family = [row for row in _TABLE if row.exit_code == number // 100]
    return family[0] if family else KINDS["internal"]


def kind_from_peer(number: int, families: Collection[int], otherwise: str) -> ErrorKind:
    """The row for a number that a peer sent, where a peer may speak of these `families` (exit codes) only.

    Anything else reads as `otherwise`: a peer must not make us say that we were interrupted, or have a bug.
    """
    found = kind_by_number(number)
    return found if found.exit_code in families else KINDS[otherwise]


@attrs.frozen
class Error:
    """An error as a value, for events and results: kind, the sentence, the hint."""

    name: str
    message: str
    hint: str = ""

    @property
    def number(self) -> int:
        """The wire number."""
        return KINDS[self.name].number

    @property
    def exit_code(self) -> int:
        """The exit code this error leads to."""
        return KINDS[self.name].exit_code


class FtxError(Exception):
    """A failure with a stable name.

    `name` is a row of the table; `message` is the sentence shown (default: the row's), `hint` what to try. Both
    must already be clean for display: text from a peer goes through `ftx.text.show` first.
    """

    def __init__(self, name: str, message: str = "", hint: str = "") -> None:
        row = KINDS[name]
        self.name = name
        self.number = row.number
        self.exit_code = row.exit_code
        self.message = message or row.sentence
        self.hint = hint or row.hint
        super().__init__(self.message)

    def as_value(self) -> Error:
        """The same as a value."""
        return Error(self.name, self.message, self.hint)


class ProtocolError(FtxError):
    """The peer broke a rule of the protocol. The session ends; we may still send the number as the reason."""


class LocalProtocolError(FtxError):
    """Our own code asked for something the protocol forbids in this state: a bug of ours, never the peer's."""

    def __init__(self, message: str) -> None:
        super().__init__("internal", message)


class StartupError(FtxError):
    """The daemon cannot start. One sentence; the process ends with exit code 1."""
