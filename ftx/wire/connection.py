"""Messages of a connection, whatever it is for: hello and goodbye, signs of life, pairing (sections 3, 10 and 15)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ftx.wire.fields import Display, Element, ErrorNumber, Feature, Message, Port, Proof, Token, Version

__all__ = [
    "ErrorMessage",
    "Goodbye",
    "Hello",
    "PairConfirm",
    "PairDone",
    "PairReply",
    "PairStart",
    "Ping",
    "Pong",
]


class Hello(Message, frozen=True):
    """The first message of each side."""

    magic: Annotated[str, Meta(max_length=8)]
    lowest: Version
    highest: Version
    features: Annotated[list[Feature], Meta(max_length=32)]
    name: Display
    software: Display
    signed_in: bool


class ErrorMessage(Message, frozen=True):
    """The reason for which the session ends now."""

    number: ErrorNumber


class Goodbye(Message, frozen=True):
    """A clean end."""


class Ping(Message, frozen=True):
    """Are you there?"""

    token: Token


class Pong(Message, frozen=True):
    """Yes: the answer to the ping with this token."""

    token: Token


class PairStart(Message, frozen=True):
    """The client's side of SPAKE2: with it the one attempt of a pairing window begins (section 15)."""

    element: Element


class PairReply(Message, frozen=True):
    """The server's side of SPAKE2."""

    element: Element


class PairConfirm(Message, frozen=True):
    """The client proves that it has the code, in this TLS session; `port` is its own daemon's, 0 for none."""

    proof: Proof
    port: Port


class PairDone(Message, frozen=True):
    """The server has stored the client's key, and proves that it has the code, too."""

    proof: Proof
