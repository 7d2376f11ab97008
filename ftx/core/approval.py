"""The phrase that two people compare before one of them consents to an offer (`docs/protocol.md`, section 18).

Theory. Between two ends that do not know each other there may be a third, which is one end to each. It could try keys
or nonces until both screens show the same words, if it knew everything that goes into one of the two phrases before it
has to fix the other. So the receiver commits to its nonce first, the sender then reveals its own, and only then the
receiver opens: whoever is between has to fix its nonce towards one side before it knows that side's, and is right once
in 2^24 offers.

The identities that TLS proved are in the phrase; that is what makes the words of an honest pair those of nobody else.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ftx import limits
from ftx.core.identity import same, signed_bytes
from ftx.core.wordlist import WORDS
from ftx.errors import ProtocolError
from ftx.wire.messages import Reveal, Waiting

__all__ = ["NONCE", "Asker", "Waiter", "commitment", "phrase"]

#: Bytes of a nonce.
NONCE: Final = 32
_COMMITMENT: Final = b"ftx approval commitment v1"
_PHRASE: Final = b"ftx approval phrase v1"


def commitment(job: bytes, receiver: bytes, nonce: bytes) -> bytes:
    """What the receiver says of its `nonce` before it shows it: 32 bytes. All arguments are of fixed length."""
    return hashlib.sha256(signed_bytes(_COMMITMENT, job + receiver + nonce)).digest()


def phrase(job: bytes, sender: bytes, receiver: bytes, sender_nonce: bytes, receiver_nonce: bytes) -> str:
    """The words for both screens; `sender` and `receiver` are identities. All arguments are of fixed length."""
    message = job + sender + receiver + sender_nonce + receiver_nonce
    digest = hashlib.sha256(signed_bytes(_PHRASE, message)).digest()
    return " ".join(WORDS[byte] for byte in digest[: limits.PHRASE_WORDS])


class Asker:
    """The receiver's end, for one offer. `nonce` is 32 random bytes, used for nothing else."""

    def __init__(self, job: bytes, sender: bytes, receiver: bytes, nonce: bytes) -> None:
        self._job = job
        self._sender = sender
        self._receiver = receiver
        self._nonce = nonce
        #: The words, once the sender has revealed its nonce.
        self.phrase: str | None = None

    def commit(self, seconds: int) -> Waiting:
        """The first message: somebody is asked, for at most so many seconds."""
        return Waiting(self._job, seconds, commitment(self._job, self._receiver, self._nonce))

    def revealed(self, message: Reveal, seconds: int) -> Waiting:
        """The sender's nonce came: the words are known, and this opens the commitment. Once."""
        if self.phrase is not None or message.job != self._job:
            raise ProtocolError("protocol-error", "a nonce was revealed twice, or for another job")
        self.phrase = phrase(self._job, self._sender, self._receiver, message.nonce, self._nonce)
        return Waiting(self._job, seconds, self._nonce)


class Waiter:
    """The sender's end, for one offer. `nonce` is 32 random bytes, used for nothing else."""

    def __init__(self, job: bytes, sender: bytes, receiver: bytes, nonce: bytes) -> None:
        self._job = job
        self._sender = sender
        self._receiver = receiver
        self._nonce = nonce
        self._commitment: bytes | None = None
        #: The words, once the receiver has opened its commitment.
        self.phrase: str | None = None

    def waiting(self, message: Waiting) -> Reveal | None:
        """The receiver's commitment, which is answered, or its opening, after which `phrase` is known.

        ProtocolError when what is opened is not what was committed to, or when more comes than these two.
        """
        if self._commitment is None:
            self._commitment = message.value
            return Reveal(self._job, self._nonce)
        if self.phrase is not None:
            raise ProtocolError("protocol-error", "the receiver opened its commitment twice")
        if not same(commitment(self._job, self._receiver, message.value), self._commitment):
            raise ProtocolError("protocol-error", "the receiver opened something else than it had committed to")
        self.phrase = phrase(self._job, self._sender, self._receiver, self._nonce, message.value)
        return None
