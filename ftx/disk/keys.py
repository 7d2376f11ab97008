"""The identity key: made once, kept in one private file, used to sign.

The file is PKCS #8 in PEM (RFC 5208, RFC 8410), mode 0600, so that other tools can read it too. Nothing in it
is encrypted: the daemon must start without a person, and who can read our files can act as us anyway.
"""

from __future__ import annotations

import os

import attrs
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ftx import limits
from ftx.core.identity import identity_of, signed_bytes
from ftx.disk import private
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["Identity", "load", "load_or_create", "renew", "verify"]

_KIND = "key-unusable"


@attrs.frozen
class Identity:
    """This machine's key pair. Two are equal when their public keys are."""

    #: Never shown and never compared.
    private_key: Ed25519PrivateKey = attrs.field(repr=False, eq=False)
    #: The raw public key, 32 bytes.
    public_raw: bytes
    #: SHA-256 of the public key's SubjectPublicKeyInfo, 32 bytes.
    id: bytes

    @classmethod
    def of(cls, private_key: Ed25519PrivateKey) -> Identity:
        """The identity of `private_key`."""
        public_raw = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(private_key, public_raw, identity_of(public_raw))

    @classmethod
    def generate(cls) -> Identity:
        """A new identity from the system's random numbers, in memory only."""
        return cls.of(Ed25519PrivateKey.generate())

    def sign(self, context: bytes, message: bytes) -> bytes:
        """An Ed25519 signature (64 bytes) over `message`, good for `context` only (`signed_bytes`)."""
        return self.private_key.sign(signed_bytes(context, message))


def verify(public_raw: bytes, context: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` for `context` is by the raw key `public_raw`.

    False for anything malformed as well; never raises for what a peer can send.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_raw).verify(signature, signed_bytes(context, message))
    except (InvalidSignature, ValueError):
        return False
    return True


def load(path: str) -> Identity:
    """The identity kept at `path`.

    FtxError `key-unusable`, with a sentence, when there is no file, when it is not a regular file of ours or
    open to others, or when it does not contain an unencrypted Ed25519 key.
    """
    found = _load(path)
    if found is None:
        raise FtxError(_KIND, f"there is no identity key at {show(path)}")
    return found


def load_or_create(path: str) -> Identity:
    """The identity kept at `path`, made first if there is none.

    The folder is made too (0700) if only it is missing. The new file is 0600 and durable before this returns;
    of several processes that start at once, one makes the key and all return it. FtxError `key-unusable` as
    `load`.
    """
    private.ensure_folder(os.path.dirname(path) or ".", _KIND)
    found = _load(path)
    if found is not None:
        return found
    made = Identity.generate()
    if private.create(path, _pem(made), _KIND):
        return made
    return load(path)


def renew(path: str) -> Identity:
    """A new identity at `path` instead of the one there; peers must pair with it anew.

    The old key is gone for good. FtxError `key-unusable` when the file cannot be written.
    """
    private.ensure_folder(os.path.dirname(path) or ".", _KIND)
    made = Identity.generate()
    private.replace(path, _pem(made), _KIND)
    return made


def _pem(identity: Identity) -> bytes:
    return identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(path: str) -> Identity | None:
    read = private.read(path, limits.KEY_FILE, _KIND)
    if read is None:
        return None
    content, _status = read
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:  # the last: a key of a wrong length
        raise FtxError(_KIND, f"{show(path)} does not contain a usable key", _hint()) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FtxError(_KIND, f"the key in {show(path)} is not an Ed25519 key", _hint())
    return Identity.of(key)


def _hint() -> str:
    return "restore it from a backup, or remove it to get a new identity"
