"""The blinded form of discovery: a query and a reply that only two machines that know each other can recognise.

`docs/discovery.md`, section 7. Whoever does not know the identities of both sees random bytes, which differ from query
to query and from reply to reply. Nothing here makes random bytes: they come from the caller.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ftx import limits
from ftx.errors import ProtocolError
from ftx.wire.announce import (
    TAG_BYTES,
    TAGS_BYTES,
    BlindQuery,
    BlindReply,
    Way,
    encode_blind_query,
    encode_blind_reply,
    pad_reply,
    unpad_reply,
)

__all__ = ["Asking", "Circle", "pair_key"]

_CONTEXT: Final = b"ftx 1 blinded discovery\0"
#: A key seals one reply only, so the nonce of the cipher need not differ (RFC 8439 section 2.8).
_CIPHER_NONCE: Final = bytes(12)


def pair_key(asker: bytes, responder: bytes) -> bytes:
    """What two machines have in common that strangers do not: 32 bytes from the identities, in this order."""
    return hashlib.sha256(_CONTEXT + asker + responder).digest()


def _query_tag(pair: bytes, nonce: bytes) -> bytes:
    return hmac.digest(pair, b"query\0" + nonce, "sha256")[:TAG_BYTES]


def _reply_tag(pair: bytes, nonce: bytes, salt: bytes) -> bytes:
    return hmac.digest(pair, b"reply\0" + nonce + salt, "sha256")[:TAG_BYTES]


def _cipher(pair: bytes, nonce: bytes, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hmac.digest(pair, b"seal\0" + nonce + salt, "sha256"))


class Asking:
    """The side that asks, for one search: `own` is its identity, `wanted` those it looks for, `nonce` the search's.

    Asked for are as many as BLIND_QUERIES hold, the first ones of `wanted`.
    """

    def __init__(self, own: bytes, wanted: Iterable[bytes], nonce: bytes) -> None:
        most = limits.BLIND_TAGS * limits.BLIND_QUERIES
        self._nonce = nonce
        self._pairs = {one: pair_key(own, one) for one in list(dict.fromkeys(wanted))[:most]}
        self._tags = b"".join(_query_tag(pair, nonce) for pair in self._pairs.values())

    @property
    def fill(self) -> int:
        """How many random bytes `queries` wants."""
        return -len(self._tags) % TAGS_BYTES

    def queries(self, way: Way, fill: bytes) -> list[bytes]:
        """The datagrams that ask by `way`; none where nobody is wanted. ValueError unless `fill` has its length."""
        tags = self._tags + fill
        parts = (tags[start : start + TAGS_BYTES] for start in range(0, len(tags), TAGS_BYTES))
        return [encode_blind_query(BlindQuery(way, self._nonce, part)) for part in parts]

    def open(self, reply: BlindReply) -> tuple[bytes, bytes] | None:
        """The identity that must have signed the reply within, and that reply; None for what is not for us."""
        for one, pair in self._pairs.items():
            if not hmac.compare_digest(_reply_tag(pair, reply.nonce, reply.salt), reply.tag):
                continue
            try:
                padded = _cipher(pair, reply.nonce, reply.salt).decrypt(_CIPHER_NONCE, reply.sealed, None)
                return one, unpad_reply(padded)
            except (InvalidTag, ProtocolError):
                return None
        return None


class Circle:
    """The side that answers: who may recognise the machine whose identity is `own`.

    Looking whether a query is for us takes a tag for everybody known, and a look at each of the query's; `allowed`
    bounds how many that are in a second.
    """

    def __init__(self, own: bytes) -> None:
        self._own = own
        self._pairs: dict[bytes, bytes] = {}
        self._follow: Collection[bytes] | None = None
        self._since = float("-inf")
        self._work = 0

    def follow(self, known: Collection[bytes]) -> None:
        """Be recognised by these identities from now on, and by the holder of our own."""
        if known is self._follow:
            return
        self._follow = known
        wanted = {*known, self._own}
        if wanted != self._pairs.keys():
            self._pairs = {one: self._pairs.get(one) or pair_key(one, self._own) for one in wanted}

    def exhausted(self, now: float) -> bool:
        """Whether there is no work left in this second for one more query; asked before anything is done for it."""
        return now - self._since < 1.0 and self._work > 0 and self._work + self._cost > limits.BLIND_WORK

    def allowed(self, now: float) -> bool:
        """Whether there is work left in this second for one more query, which then counts."""
        if self.exhausted(now):
            return False
        if now - self._since >= 1.0:
            self._since, self._work = now, 0
        self._work += self._cost
        return True

    @property
    def _cost(self) -> int:
        return len(self._pairs) + limits.BLIND_TAGS

    def asker(self, query: BlindQuery) -> bytes | None:
        """What `seal` needs to answer whoever asks, None when the query is for somebody else."""
        tags = query.tags
        there = {tags[start : start + TAG_BYTES] for start in range(0, len(tags), TAG_BYTES)}
        return next((pair for pair in self._pairs.values() if _query_tag(pair, query.nonce) in there), None)

    def seal(self, pair: bytes, query: BlindQuery, reply: bytes, salt: bytes) -> bytes:
        """The datagram with the signed `reply` in it. `salt`: SALT_BYTES random bytes, never used before."""
        sealed = _cipher(pair, query.nonce, salt).encrypt(_CIPHER_NONCE, pad_reply(reply), None)
        tag = _reply_tag(pair, query.nonce, salt)
        return encode_blind_reply(BlindReply(query.way, query.nonce, salt, tag, sealed))
