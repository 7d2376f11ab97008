"""Identities: who a machine is, how that is written down, and what its signatures cover.

An identity is the SHA-256 of the SubjectPublicKeyInfo (RFC 5280 section 4.1) of an Ed25519 key, in DER (RFC
8410 section 4): 32 bytes that do not change when a certificate is made anew.

Written for people it is RFC 4648 base32 in lower case with check characters: the 256 bits give 52 characters
(the last one carries 1 bit and 4 zero bits), every 13 of them are followed by one check character, and the 56
characters are shown in 8 groups of 7:

    aaaqeay-eaudao5-cajbifq-ydiob4x-ibceqtc-qkrmfym-ydenbwh-a5dypqs

The check character makes the Luhn sum modulo 32 of its 14 characters zero: any one wrong character is caught,
and any two neighbours exchanged except `a` with `7`. Short forms do not exist: what can be typed can be
forged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from ftx import limits, text
from ftx.core.wordlist import WORDS
from ftx.errors import FtxError

__all__ = [
    "ID_BYTES",
    "PUBLIC_BYTES",
    "SIGNATURE_BYTES",
    "SIGN_DISCOVERY",
    "SIGN_RECEIPT",
    "format_id",
    "identity_of",
    "parse_id",
    "same",
    "signed_bytes",
    "spki_der",
    "words",
]

#: Bytes of an identity.
ID_BYTES: Final = 32
#: Bytes of a raw Ed25519 public key (RFC 8032 section 5.1.5).
PUBLIC_BYTES: Final = 32
#: Bytes of an Ed25519 signature (RFC 8032 section 5.1.6).
SIGNATURE_BYTES: Final = 64

#: Signing context of a job's receipt (`docs/protocol.md`, section 8).
SIGN_RECEIPT: Final = b"ftx receipt v1"
#: Signing context of a discovery reply (`docs/discovery.md`).
SIGN_DISCOVERY: Final = b"ftx 1 discovery"

# SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING (32 bytes, no unused bits) }, RFC 8410 section 4.
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}
_DATA_CHARS: Final = 13
_PART: Final = _DATA_CHARS + 1
_CHARS: Final = 4 * _PART
_GROUP: Final = 7
_WORDS: Final = 8


def spki_der(public_raw: bytes) -> bytes:
    """The SubjectPublicKeyInfo in DER of a raw Ed25519 public key; ValueError unless that is 32 bytes."""
    if len(public_raw) != PUBLIC_BYTES:
        raise ValueError("an Ed25519 public key has 32 bytes")
    return _SPKI_PREFIX + public_raw


def identity_of(public_raw: bytes) -> bytes:
    """The identity (32 bytes) of a raw Ed25519 public key; ValueError unless that is 32 bytes."""
    return hashlib.sha256(spki_der(public_raw)).digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two identities, digests or tokens are equal; takes as long wherever they differ."""
    return hmac.compare_digest(one, other)


def _luhn(values: list[int]) -> int:
    """The Luhn sum modulo 32: from the right, every second value is doubled and its base-32 digits added."""
    total = 0
    for place, value in enumerate(reversed(values)):
        if place % 2:
            value *= 2
            value = value // 32 + value % 32
        total += value
    return total % 32


def _check_char(data: str) -> str:
    """The character that, written behind `data`, makes the Luhn sum zero."""
    return _ALPHABET[-_luhn([_VALUES[char] for char in data] + [0]) % 32]


def format_id(identity: bytes) -> str:
    """`identity` (32 bytes, else ValueError) as people read it: 8 groups of 7 characters, 63 in all."""
    if len(identity) != ID_BYTES:
        raise ValueError("an identity has 32 bytes")
    data = base64.b32encode(identity).decode("ascii").rstrip("=").lower()
    parts = [data[start : start + _DATA_CHARS] for start in range(0, len(data), _DATA_CHARS)]
    whole = "".join(part + _check_char(part) for part in parts)
    return "-".join(whole[start : start + _GROUP] for start in range(0, _CHARS, _GROUP))


def parse_id(written: str) -> bytes:
    """The identity (32 bytes) that `format_id` wrote; upper case, white space and dashes do not matter.

    Raises FtxError `bad-identity` with a sentence that says what is wrong: a character that never occurs, the
    number of characters, or which groups contain a mistake.
    """
    if len(written) > limits.IDENTITY_TEXT:
        raise FtxError("bad-identity", f"that is too long for an ftx identity ({len(written)} characters)")
    chars = "".join(written.split()).replace("-", "").lower()
    for char in chars:
        if char not in _VALUES:
            why = " (only the digits 2 to 7 are used)" if char in "0189" else ""
            raise FtxError("bad-identity", f"\"{text.show(char)}\" never occurs in an ftx identity{why}")
    if len(chars) != _CHARS:
        what = f"an ftx identity has {_CHARS} letters and digits, this has {len(chars)}"
        raise FtxError("bad-identity", what)
    data = ""
    for number in range(4):
        part = chars[number * _PART : (number + 1) * _PART]
        if _luhn([_VALUES[char] for char in part]):
            first = 2 * number + 1
            what = f"there is a mistake in group {first} or {first + 1} of the identity"
            raise FtxError("bad-identity", what)
        data += part[:_DATA_CHARS]
    if _VALUES[data[-1]] % 16:  # the 4 bits behind the 256 that count: one id must not have two spellings
        raise FtxError("bad-identity", "there is a mistake in the last group of the identity")
    return base64.b32decode(data.upper() + "====")


def words(identity: bytes) -> str:
    """The fingerprint of `identity` as 8 words (64 bits) to compare aloud; for display only, never input.

    They stand for the last 8 bytes, so that who compares the words and the beginning of the identity has
    compared two different parts of it. ValueError unless `identity` has 32 bytes.
    """
    if len(identity) != ID_BYTES:
        raise ValueError("an identity has 32 bytes")
    return " ".join(WORDS[byte] for byte in identity[-_WORDS:])


def signed_bytes(context: bytes, message: bytes) -> bytes:
    """What a signature for `context` covers: the ASCII context, a NUL, the message.

    The NUL ends the context, so a signature made for one purpose can never be read as one for another.
    ValueError if the context is empty, not ASCII, or contains a NUL.
    """
    if not context or not context.isascii() or b"\0" in context:
        raise ValueError("a signing context is ASCII text without NUL")
    return context + b"\0" + message
