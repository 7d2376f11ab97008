"""Identities: how they are written, read back, and what signatures cover."""

import contextlib
import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.core import identity
from ftx.core.wordlist import WORDS
from ftx.errors import FtxError

ids = st.binary(min_size=32, max_size=32)


def test_the_identity_of_the_first_rfc_8032_key_is_the_hash_of_its_spki() -> None:
    """The DER is what `openssl pkey -pubout -outform DER` writes for RFC 8032 section 7.1, test 1."""
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    der = bytes.fromhex("302a300506032b6570032100") + public
    assert identity.spki_der(public) == der
    assert identity.identity_of(public) == hashlib.sha256(der).digest()


def test_keys_and_identities_of_other_lengths_are_refused() -> None:
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            identity.spki_der(wrong)
        with pytest.raises(ValueError, match="32 bytes"):
            identity.format_id(wrong)
        with pytest.raises(ValueError, match="32 bytes"):
            identity.words(wrong)


def test_the_written_form_is_frozen() -> None:
    """A change here would make every identity people have written down useless."""
    assert identity.format_id(bytes(32)) == "-".join(["aaaaaaa"] * 8)
    assert identity.format_id(bytes(range(32))) == (
        "aaaqeay-eaudao5-cajbifq-ydiob4x-ibceqtc-qkrmfym-ydenbwh-a5dypqs"
    )


@given(ids)
def test_what_is_written_is_read_back(value: bytes) -> None:
    written = identity.format_id(value)
    assert len(written) == 63
    assert set(written) <= set(string.ascii_lowercase + "234567-")
    assert identity.parse_id(written) == value
    assert identity.parse_id(f"  {written.upper().replace('-', ' ')}\n") == value
    assert identity.parse_id(written.replace("-", "")) == value


@given(ids, st.integers(0, 55), st.integers(1, 31))
def test_one_wrong_character_is_always_found(value: bytes, place: int, step: int) -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    chars = list(identity.format_id(value).replace("-", ""))
    chars[place] = alphabet[(alphabet.index(chars[place]) + step) % 32]
    with pytest.raises(FtxError) as caught:
        identity.parse_id("".join(chars))
    assert caught.value.name == "bad-identity"
    half = place // 14
    assert f"group {2 * half + 1} or {2 * half + 2}" in caught.value.message


@given(ids, st.integers(0, 12), st.integers(0, 3))
def test_exchanged_neighbours_are_found(value: bytes, place: int, part: int) -> None:
    chars = list(identity.format_id(value).replace("-", ""))
    at = part * 14 + place
    pair = {chars[at], chars[at + 1]}
    if len(pair) == 2 and pair != {"a", "7"}:
        chars[at], chars[at + 1] = chars[at + 1], chars[at]
        with pytest.raises(FtxError, match="mistake"):
            identity.parse_id("".join(chars))


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("", "56 letters and digits, this has 0"),
        ("aaaaaaa", "this has 7"),
        ("a" * 57, "this has 57"),
        ("a" * 1000, "too long"),
        ("0" + "a" * 55, '"0" never occurs in an ftx identity (only the digits 2 to 7 are used)'),
        ("ä" + "a" * 55, '"ä" never occurs'),
        ("\x1b" + "a" * 55, '"\\x1b" never occurs'),
        ("pi", "this has 2"),
        ("aaqeaye", "this has 7"),
        ("aaaqeay-eaudao5", "this has 14"),
        ("aaaqeay-eaudao5-cajbifq-ydiob4x-ibceqtc-qkrmfym-ydenbwh", "this has 49"),
        ("aaaqeay-eaudao5-cajbifq-ydiob4x-ibceqtc-qkrmfym-ydenbwh-a5dypq", "this has 55"),
        ("aaaqeay-eaudao5…", '"…" never occurs'),
    ],
)
def test_what_is_wrong_is_said(written: str, says: str) -> None:
    with pytest.raises(FtxError) as caught:
        identity.parse_id(written)
    assert caught.value.name == "bad-identity"
    assert says in caught.value.message


def test_an_identity_has_one_spelling_only() -> None:
    """The last data character carries one bit; another value with a right check character is refused."""
    accepted = []
    for last in "abcdefghijklmnopqrstuvwxyz234567":
        for check in "abcdefghijklmnopqrstuvwxyz234567":
            with contextlib.suppress(FtxError):
                accepted.append(identity.parse_id("a" * 54 + last + check))
    assert sorted(accepted) == [bytes(32), bytes(31) + b"\x01"]


def test_words_are_a_full_list_that_tells_words_apart() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert list(WORDS) == sorted(WORDS)
    assert len({word[:3] for word in WORDS}) == 256
    assert all(4 <= len(word) <= 7 and word.isascii() and word.isalpha() for word in WORDS)


def test_words_stand_for_the_last_eight_bytes() -> None:
    value = bytes(24) + bytes([0, 1, 2, 3, 252, 253, 254, 255])
    assert identity.words(value) == "acorn adobe agate alarm zephyr zigzag zinc zodiac"


def test_the_word_list_is_frozen() -> None:
    digest = hashlib.sha256(" ".join(WORDS).encode()).hexdigest()
    assert digest == "8b01021703e8823de95127b27fbd0c01da167605f94ff03d8ab9d27e24c3586a"


def test_contexts_keep_signatures_apart() -> None:
    assert identity.signed_bytes(b"a", b"bc") == b"a\0bc"
    assert identity.signed_bytes(b"a", b"bc") != identity.signed_bytes(b"ab", b"c")
    assert identity.SIGN_RECEIPT == b"ftx receipt v1"  # frozen, as the specifications say
    assert identity.SIGN_DISCOVERY == b"ftx 1 discovery"
    for wrong in (b"", b"a\0b", "ä".encode()):
        with pytest.raises(ValueError, match="signing context"):
            identity.signed_bytes(wrong, b"")


def test_same_compares_whole_values() -> None:
    assert identity.same(bytes(32), bytes(32))
    assert not identity.same(bytes(32), bytes(31) + b"\x01")
    assert not identity.same(bytes(32), b"")
