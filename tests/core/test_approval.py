"""The phrase that two people compare: the same at both ends of an honest pair, and of no other."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.core.approval import NONCE, Asker, Waiter, commitment, phrase
from ftx.core.wordlist import WORDS
from ftx.errors import ProtocolError
from ftx.wire.messages import Reveal, Waiting

JOB, SENDER, RECEIVER = b"j" * 16, b"S" * 32, b"R" * 32
NONCES = st.binary(min_size=NONCE, max_size=NONCE)


@given(NONCES, NONCES)
def test_both_ends_have_the_same_words(ours: bytes, theirs: bytes) -> None:
    """As the specification says it, in its own words."""
    asker, waiter = Asker(JOB, SENDER, RECEIVER, theirs), Waiter(JOB, SENDER, RECEIVER, ours)
    first = asker.commit(120)
    assert first.value == hashlib.sha256(b"ftx approval commitment v1\0" + JOB + RECEIVER + theirs).digest()
    reveal = waiter.waiting(first)
    assert reveal == Reveal(JOB, ours)
    assert waiter.phrase is None, "nothing is shown before the receiver has opened"
    assert waiter.waiting(asker.revealed(reveal, 119)) is None
    digest = hashlib.sha256(b"ftx approval phrase v1\0" + JOB + SENDER + RECEIVER + ours + theirs).digest()
    assert waiter.phrase == asker.phrase == " ".join(WORDS[byte] for byte in digest[:3])


def test_everything_is_in_the_phrase() -> None:
    """Another key at either end, another job or another nonce: other words."""
    whole = [JOB, SENDER, RECEIVER, b"s" * 32, b"r" * 32]
    said = {phrase(*whole)}
    for place, value in enumerate(whole):
        other = list(whole)
        other[place] = bytes([value[0] ^ 1]) + value[1:]
        said.add(phrase(*other))
    assert len(said) == 6
    assert commitment(JOB, RECEIVER, b"r" * 32) != commitment(JOB, SENDER, b"r" * 32)


def test_whoever_is_between_cannot_choose() -> None:
    """It fixed its nonce towards the sender before it saw the sender's: opening another one is found out."""
    between = b"M" * 32
    waiter = Waiter(JOB, SENDER, between, b"s" * 32)
    towards_sender = Asker(JOB, SENDER, between, b"m" * 32)
    reveal = waiter.waiting(towards_sender.commit(60))
    assert reveal is not None
    # now it knows the sender's nonce, and would like one that makes the words those of the other screen
    for chosen in (b"n" * 32, b"m" * 31 + b"n"):
        with pytest.raises(ProtocolError, match="something else"):
            waiter.waiting(Waiting(JOB, 60, chosen))
        assert waiter.phrase is None


def test_each_message_once() -> None:
    """A second nonce would let the sender look for words; a second opening has no meaning."""
    asker, waiter = Asker(JOB, SENDER, RECEIVER, b"r" * 32), Waiter(JOB, SENDER, RECEIVER, b"s" * 32)
    reveal = waiter.waiting(asker.commit(60))
    assert reveal is not None
    other = msgspec.structs.replace(reveal, job=b"k" * 16)
    with pytest.raises(ProtocolError):
        asker.revealed(other, 60)
    opening = asker.revealed(reveal, 60)
    with pytest.raises(ProtocolError):
        asker.revealed(reveal, 60)
    waiter.waiting(opening)
    with pytest.raises(ProtocolError):
        waiter.waiting(opening)
