"""The transcript: its lines to the letter, and the sums that follow from them."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from ftx.core.receipt import Counts, Transcript, line

DIGEST = b"\xab" * 32


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ([b"a.txt"], b"a.txt"),
        ([b"a", b"b c"], b"a/b%20c"),
        (["é".encode()], b"%C3%A9"),
        ([b"\xff\n\r\t"], b"%FF%0A%0D%09"),
        ([b"%2F"], b"%252F"),
        ([b"-._~AZaz09"], b"-._~AZaz09"),
        ([b"+&=?#:@!$'()*,;[]"], b"%2B%26%3D%3F%23%3A%40%21%24%27%28%29%2A%2C%3B%5B%5D"),
        ([b"\\"], b"%5C"),
    ],
)
def test_how_a_path_is_written(path: list[bytes], written: bytes) -> None:
    """Every byte but a few as %XX in upper case."""
    assert line("stored", 5, DIGEST, path, path) == b"stored 5 " + b"ab" * 32 + b" " + written + b" " + written + b"\n"


def test_every_kind_of_line() -> None:
    """`STATUS SIZE DIGEST PATH STORED LF`, the hash over all of them, and the counts."""
    transcript = Transcript()
    lines = [
        transcript.stored(5, DIGEST, [b"a"], [b"in", b"a (1)"], identical=False),
        transcript.stored(7, DIGEST, [b"b"], [b"b"], identical=True),
        transcript.skipped(9, [b"c"]),
        transcript.failed(11, 606, [b"d"]),
        transcript.folder([b"e"], [b"in", b"e"]),
        transcript.failed(0, 607, [b"f"]),
    ]
    digest = b"ab" * 32
    assert lines == [
        b"stored 5 " + digest + b" a in/a%20%281%29\n",
        b"identical 7 " + digest + b" b b\n",
        b"skipped 9 - c -\n",
        b"failed-606 11 - d -\n",
        b"folder 0 - e in/e\n",
        b"failed-607 0 - f -\n",
    ]
    assert transcript.digest() == blake3(b"".join(lines)).digest()
    assert transcript.counts == Counts(files=2, identical=1, skipped=1, folders=1, failed=2, bytes=12)


@pytest.mark.parametrize("odd", [b"c", b"c d", b"c\nd", b"\xff", b"~"])
@pytest.mark.parametrize("identical", [False, True])
def test_many_at_once_are_as_one_by_one(odd: bytes, identical: bool) -> None:
    """The same lines, counts and hash, whether or not there is something to quote in one of them."""
    files = [
        (5, DIGEST, (b"t", b"a"), (b"in", b"t", b"a")),
        (6, DIGEST, (b"t", odd), (b"t", odd)),
        (7, b"", (odd,), (b"x",)),
    ]
    each, all_ = Transcript(), Transcript()
    lines = [each.stored(*file, identical=identical) for file in files]
    assert all_.stored_all(files, identical=identical) == b"".join(lines)
    assert all_.counts == each.counts
    assert all_.digest() == each.digest()


def test_nothing() -> None:
    """The transcript of no results is BLAKE3 of nothing."""
    assert Transcript().digest() == blake3().digest()
    assert Transcript().counts == Counts()


PATHS = st.lists(st.binary(min_size=1, max_size=4).filter(lambda name: not set(name) & {0, 47}), min_size=1, max_size=4)


@given(PATHS, PATHS)
def test_no_two_paths_have_one_line(one: list[bytes], other: list[bytes]) -> None:
    """What is hashed says exactly one thing; a line is one line of ASCII with five fields."""
    first, second = line("folder", 0, None, one, one), line("folder", 0, None, other, other)
    assert (first == second) == (one == other)
    assert first.isascii()
    assert first.count(b" ") == 4
    assert first.count(b"\n") == 1
