"""One file into a pipe: in order, verified, and gone on with after a connection was lost."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator

import pytest

from ftx.core.blocks import block_digest, file_digest
from ftx.disk.store import Failed, FileEntry, FolderEntry, Refuse, Stored, Want, Whole
from ftx.disk.stream import Stream
from ftx.errors import FtxError
from ftx.limits import BLOCK, STREAM_FILE

CONTENT = random.Random(3).randbytes(4 * BLOCK + 77)
BLOCKS = [CONTENT[start : start + BLOCK] for start in range(0, len(CONTENT), BLOCK)]
DIGESTS = [block_digest([block]) for block in BLOCKS]
DIGEST = file_digest(len(CONTENT), DIGESTS)
LARGE = FileEntry(0, (b"large",), len(CONTENT), 5, 0o644)


class Pipe:
    """A pipe with somebody at its other end."""

    def __init__(self) -> None:
        self._read, self.fd = os.pipe()
        self._got: list[bytes] = []
        self._thread = threading.Thread(target=self._drain)
        self._thread.start()

    def _drain(self) -> None:
        while piece := os.read(self._read, 1 << 16):
            self._got.append(piece)

    def close(self) -> bytes:
        """Everything that came through."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._thread.join()
            os.close(self._read)
        return b"".join(self._got)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.mark.parametrize("size", [STREAM_FILE + 1, 2**63 - 1])
def test_a_file_that_nobody_has_is_refused_before_it_costs_anything(size: int) -> None:
    """A sender may claim any size, and a pipe is never too full for it."""
    stream = Stream(-1)
    assert stream.look_up([FileEntry(0, (b"large",), size, 5, 0o644)]) == [Refuse(0, "too-large")]
    assert stream.failure is not None
    assert "64.0 TiB" in stream.failure.message


def write(stream: Stream, *numbers: int) -> None:
    for number in numbers:
        assert stream.write_block(0, number, [BLOCKS[number]], DIGESTS[number])


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 0, 4, 2, 3)])
def test_blocks_in_any_order_leave_in_order(pipe: Pipe, order: tuple[int, ...]) -> None:
    """What comes early waits."""
    stream = Stream(pipe.fd)
    assert stream.look_up([LARGE]) == [Want(0, None)]
    write(stream, *order)
    assert stream.publish(0, DIGEST) == Stored(0, (b"large",), DIGEST)
    stream.forget()
    assert pipe.close() == CONTENT


def test_what_comes_too_early_is_bounded(pipe: Pipe) -> None:
    """A sender that begins at the end must not fill the temporary folder; what left it makes room for more."""
    stream = Stream(pipe.fd, early=2 * BLOCK)
    stream.look_up([LARGE])
    for index in (1, 2):
        assert stream.write_block(0, index, [BLOCKS[index]], DIGESTS[index])
    with pytest.raises(FtxError) as caught:
        stream.write_block(0, 3, [BLOCKS[3]], DIGESTS[3])
    assert caught.value.name == "no-space"
    assert stream.failure is not None
    assert stream.failure.name == "local-no-space"
    stream.forget()
    other = Stream(pipe.fd, early=2 * BLOCK)
    other.look_up([LARGE])
    for index in (1, 2, 0, 4, 3):
        assert other.write_block(0, index, [BLOCKS[index]], DIGESTS[index])
    assert pipe.close() == CONTENT
    other.forget()


def test_nothing_unverified_leaves(pipe: Pipe) -> None:
    """A block that is not what its digest says is not written, and a file digest that differs is told."""
    stream = Stream(pipe.fd)
    stream.look_up([LARGE])
    write(stream, 0)
    assert not stream.write_block(0, 1, [BLOCKS[2]], DIGESTS[1])
    assert stream.publish(0, DIGEST) == Failed(0, "digest-mismatch")
    write(stream, 1, 2, 3, 4)
    assert stream.publish(0, bytes(32)) == Failed(0, "digest-mismatch")
    stream.forget()
    assert pipe.close() == CONTENT


def test_another_attempt_goes_on_where_it_was(pipe: Pipe) -> None:
    """What is out or waits is not wanted again; another version of the file is none of it."""
    stream = Stream(pipe.fd)
    stream.look_up([LARGE])
    write(stream, 0, 1, 3)
    stream.stop_looking()
    with pytest.raises(FtxError):
        stream.look_up([LARGE])
    assert stream.begin(b"", b"", (), "fail") is stream
    (answer,) = stream.look_up([LARGE])
    assert isinstance(answer, Want)
    assert answer.held is not None
    assert [number for number in range(5) if number in answer.held] == [0, 1, 3]
    assert stream.sync(0) == 3 * BLOCK
    changed = FileEntry(0, (b"large",), len(CONTENT), 6, 0o644)
    assert stream.look_up([changed]) == [Refuse(0, "source-changed")]
    write(stream, 2, 4)
    assert stream.publish(0, DIGEST) == Stored(0, (b"large",), DIGEST)
    stream.forget()
    assert pipe.close() == CONTENT


def test_small_files_zeros_and_what_cannot_be(pipe: Pipe) -> None:
    """A file of one block, a block of zeros; a folder, or a second file, is an error of its own."""
    stream = Stream(pipe.fd)
    small = FileEntry(0, (b"small",), 5, 1, 0o644)
    stream.look_up([small])
    assert stream.store_whole([Whole(0, [b"hallo"], block_digest([b"hello"]))]) == [Failed(0, "digest-mismatch")]
    digest = block_digest([b"hello"])
    assert stream.store_whole([Whole(0, [b"he", b"llo"], digest)]) == [Stored(0, (b"small",), file_digest(5, [digest]))]
    for entry in (FolderEntry(0, (b"a",)), FileEntry(1, (b"b",), 1, 1, 0o644)):
        stream.failure = None
        with pytest.raises(FtxError):
            stream.look_up([entry])
        assert stream.failure is not None
        assert stream.failure.name == "usage"
    zeros = Stream(pipe.fd)
    zeros.look_up([FileEntry(0, (b"z",), BLOCK + 3, 1, 0o644)])
    assert zeros.write_block(0, 0, None, block_digest([bytes(BLOCK)]))
    assert zeros.write_block(0, 1, None, block_digest([bytes(3)]))
    zeros.forget()
    assert pipe.close() == b"hello" + bytes(BLOCK + 3)


def test_a_reader_that_went_away() -> None:
    """That is our own trouble, and no word about the sender."""
    read, write_end = os.pipe()
    os.close(read)
    stream = Stream(write_end)
    stream.look_up([LARGE])
    with pytest.raises(FtxError):
        stream.write_block(0, 0, [BLOCKS[0]], DIGESTS[0])
    assert stream.failure is not None
    assert (stream.failure.name, stream.failure.exit_code) == ("local-io", 3)
    stream.forget()
    os.close(write_end)
