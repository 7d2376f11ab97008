"""Targets: what a person writes to say to whom, and into which folder there.

    pi:                      a paired name, a discovered name or a host name
    pi:photos/2026           the same, into a folder inside its inbox
    192.168.1.7:             an IPv4 address
    [fe80::1%eth0]:photos    an IPv6 address, with its zone
    k7q2…-…-…:               a full identity
    pi@192.168.1.7:          the peer pi, and nobody else, at this address
    ftx://host:7390/photos   another port, as a URL

As with scp, the colon ends the machine and begins the folder, and a slash before the first colon makes a local path
of it: `pi:7000` is the folder `7000` on pi. Everything here is pure: no name is looked up.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, Literal, NoReturn
from urllib.parse import quote, unquote

import attrs

from ftx.core.identity import format_id, parse_id
from ftx.errors import FtxError
from ftx.limits import DEPTH, NAME, PATH
from ftx.text import show

__all__ = ["Kind", "Target", "parse_folder", "parse_target"]

Kind = Literal["name", "host", "ipv4", "ipv6", "identity", "url"]

_SCHEME: Final = "ftx://"
#: A full identity as text: 56 characters of base32 once the dashes and spaces are gone.
_IDENTITY: Final = re.compile(r"[a-zA-Z2-7]{56}")
#: The part of a target in which a colon does not end the machine.
_BRACKETED: Final = re.compile(r"(?:[^:/\[\]]*@)?\[[^\]/]*\]")
#: RFC 1123 host names, and the underscore that some home routers allow.
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


@attrs.frozen
class Target:
    """Whom to reach and which folder there to use.

    `kind` says what the machine's part looks like. A `name` may be paired, discovered or a host name, and is looked
    up in this order; a `host` has dots, and may still be the name of a peer. With `NAME@ADDRESS`, `kind` is that of the
    address, `name` (or `id`) says who must answer, and `pinned` is set.
    """

    #: As it was written, for messages; not cleaned.
    text: str
    kind: Kind
    #: The name that must or may be a peer's; empty when only an address was given.
    name: str = ""
    #: What to give to the resolver or to dial, without brackets; empty when the name cannot be a host name.
    host: str = ""
    #: 1 to 65535, or None where none was named.
    port: int | None = None
    #: The identity that must answer, 32 bytes, when one was written.
    id: bytes | None = None
    #: Folder inside the inbox, components joined with `/`; empty for the inbox itself.
    into: str = ""
    #: Whether `NAME@ADDRESS` was written: this key at this address, and nothing else.
    pinned: bool = False

    @property
    def lone_port(self) -> int | None:
        """The folder as a port, where it looks like one and no port was named: `pi:7000` is the folder `7000`."""
        number = int(self.into) if self.into.isascii() and self.into.isdigit() and len(self.into) <= 5 else 0
        named = self.port is not None or not self.text.endswith(f":{self.into}")
        return number if not named and 1 <= number <= 65535 else None

    @property
    def label(self) -> str:
        """What sentences call the machine, cleaned."""
        return show(self.name or self.host) or show(self.text.rstrip(":"))

    def machine(self) -> str:
        """The target without its folder, in a form that `parse_target` reads as the same machine and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        who = format_id(self.id) if self.id is not None else self.name
        whole = f"{who}@{host}" if self.pinned else who or host
        if self.port is None:
            return f"{whole}:"
        before = f"{quote(who, safe='')}@" if self.pinned else ""
        return f"{_SCHEME}{before}{host or quote(who, safe='')}:{self.port}"

    def with_port(self, port: int | None) -> Target:
        """The same with the port that `-p` gave; FtxError("usage") when the URL names another one."""
        if port is None or port == self.port:
            return self
        if self.port is not None:
            raise FtxError("usage", f"-p {port} and the port in {show(self.text)} differ", "give only one of them")
        return attrs.evolve(self, port=port)

    def with_folder(self, folder: str) -> Target:
        """The same with the folder that `--into` gave; FtxError("usage") when the target names one too."""
        if not folder:
            return self
        if self.into:
            raise FtxError("usage", f"--into and the folder in {show(self.text)} cannot both be given")
        return attrs.evolve(self, into=parse_folder(folder))


def parse_target(text: str, *, option: bool = False) -> Target:
    """The target that `text` means.

    `option` is for `--to`, where nothing but a target can stand, so that the colon at the end may be missing.
    FtxError("bad-target") says what is wrong and what to write instead.
    """
    if text.startswith(_SCHEME):
        return _parse_url(text)
    if "://" in text:
        _refuse(text, "only ftx:// URLs name a machine")
    bare = text[:-1] if text.endswith(":") else text
    if bare.count(":") > 1 and _ip(bare) is not None:
        raise FtxError("bad-target", f"an IPv6 address stands in brackets: [{show(bare)}]:")
    machine, colon, folder = _split(text)
    if not colon and not option:
        raise FtxError(
            "bad-target",
            f"'{show(text)}' looks like a local name; to send to the machine {show(text)} write '{show(text)}:'"
            if text and "/" not in text
            else f"'{show(text)}' is a local path, and the last argument must say where to send to",
            "end the command with NAME:, HOST:, [IPv6]: or ftx://HOST:PORT, or use --to",
        )
    if not machine:
        _refuse(text, "there is no machine before the colon" if colon else "it is empty")
    return attrs.evolve(_parse_machine(machine, text), into=parse_folder(folder))


def parse_folder(text: str) -> str:
    """A folder inside an inbox in its plain form: no empty or `.` components, none at either end.

    FtxError("bad-target") for an absolute path, for `..`, and for what no receiver would take (components over
    255 bytes, more than 64 of them, a control character), so that the answer comes before any connection.
    """
    if text.startswith("/"):
        raise FtxError(
            "bad-target",
            f"'{show(text)}' is absolute, and a folder of a target is always inside the peer's inbox",
            f"write it without the slash: {show(text.lstrip('/')) or 'NAME:'}",
        )
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise FtxError("bad-target", f"'{show(text)}' leaves the inbox", "write the folder without '..'")
    raw = [part.encode("utf-8", "surrogateescape") for part in parts]
    if any(ord(char) < 32 or char == "\x7f" for char in text):
        raise FtxError("bad-target", f"'{show(text)}' has a control character", "name the folder without it")
    if len(raw) > DEPTH or any(len(part) > NAME for part in raw) or sum(map(len, raw)) + len(raw) > PATH:
        raise FtxError("bad-target", f"'{show(text)}' is too long or too deep", "name a shorter folder")
    return "/".join(parts)


def _split(text: str) -> tuple[str, str, str]:
    """The machine, the colon and the folder; no colon when a slash comes first, as scp has it."""
    bracketed = _BRACKETED.match(text)
    start = bracketed.end() if bracketed else 0
    machine, colon, folder = text[start:].partition(":")
    if "/" in machine or not colon:
        return text, "", ""
    return text[:start] + machine, colon, folder


def _parse_machine(machine: str, text: str) -> Target:
    name, at, address = machine.rpartition("@")
    if not at:
        return _parse_one(machine, text)
    if not name or not address:
        _refuse(text, "NAME@ADDRESS needs both")
    if "@" in name:
        _refuse(text, "there is more than one @")
    pinned = _parse_one(address, text)
    if pinned.kind == "identity" or not pinned.host:
        _refuse(text, f"'{show(address)}' is not an address")
    identity = _identity(name)
    return attrs.evolve(pinned, name="" if identity else name, id=identity, pinned=True)


def _parse_one(machine: str, text: str) -> Target:
    if machine.startswith("[") or machine.endswith("]"):
        address = _ip(machine[1:-1]) if machine.startswith("[") and machine.endswith("]") else None
        if not isinstance(address, ipaddress.IPv6Address):
            _refuse(text, "between the brackets there is no IPv6 address")
        return Target(text, "ipv6", host=machine[1:-1])
    if any(char in machine for char in "[]"):
        _refuse(text, "the brackets do not match")
    if show(machine, len(machine)) != machine:
        _refuse(text, "there are invisible characters in it")
    if machine.strip() != machine:
        _refuse(text, "there is white space at an end of the name")
    if isinstance(_ip(machine), ipaddress.IPv4Address):
        return Target(text, "ipv4", host=machine)
    if any(char in machine for char in ":/"):
        _refuse(text, "a machine's name has no colon and no slash")
    identity = _identity(machine)
    if identity is not None:
        return Target(text, "identity", id=identity)
    host = machine if _is_host(machine) else ""
    return Target(text, "host" if host and "." in machine else "name", name=machine, host=host)


def _parse_url(text: str) -> Target:
    rest = text[len(_SCHEME) :]
    if "?" in rest or "#" in rest:
        _refuse(text, "an ftx:// URL has no ? and no #; write them as %3F and %23")
    authority, _, folder = rest.partition("/")
    end = authority.rfind("]")
    machine, colon, digits = authority.rpartition(":") if authority.rfind(":") > end else (authority, "", "")
    port = None
    if colon:
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= 65535):
            _refuse(text, f"'{show(digits)}' is not a port (1 to 65535)")
        port = int(digits)
    # RFC 6874 writes the zone of an IPv6 address as %25eth0; the raw % that people type means the same.
    name, at, address = machine.rpartition("@")
    address = address.replace("%25", "%") if address.startswith("[") else unquote(address, errors="surrogateescape")
    if not address:
        _refuse(text, "there is no machine in it")
    found = _parse_machine(unquote(name, errors="surrogateescape") + at + address, text)
    return attrs.evolve(found, kind="url", port=port, into=parse_folder(unquote(folder, errors="surrogateescape")))


def _identity(text: str) -> bytes | None:
    """The 32 bytes of a full identity; None when `text` is something else; FtxError when it is one, mistyped."""
    return parse_id(text) if _IDENTITY.fullmatch(text.replace("-", "").replace(" ", "")) else None


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_host(text: str) -> bool:
    """Whether the resolver may be asked: a host name in ASCII, or in letters that IDNA can carry."""
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return False
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.removesuffix(".").split("."))


def _refuse(text: str, why: str) -> NoReturn:
    raise FtxError("bad-target", f"'{show(text)}' is not a target: {why}")
