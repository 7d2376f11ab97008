"""Work grows with the input and no faster: twice as much of it takes twice the calls, counted and not timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.counted import python_calls
from support.memory_disk import MemoryDisk, items
from support.pair import Pair, hello, offer

from ftx.core.identity import format_id
from ftx.core.order import ManifestOrder
from ftx.core.strangers import Strangers
from ftx.disk import peers
from ftx.text import show
from ftx.wire import messages
from ftx.wire.frames import data_frames
from ftx.wire.jsonlines import LineSplitter, decode_request
from ftx.wire.messages import encode


def splitting(size: int, _: Path) -> Callable[[], object]:
    """A line of the control socket that comes byte by byte."""
    splitter = LineSplitter()

    def feed() -> None:
        for _ in range(size):
            splitter.feed(b"x")
            splitter.next_line()

    return feed


def requests(size: int, _: Path) -> Callable[[], object]:
    """Many requests in one segment."""
    splitter = LineSplitter()

    def feed() -> None:
        splitter.feed(b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"b":[1,2,3]}}\n' * size)
        while (line := splitter.next_line()) is not None:
            decode_request(line)

    return feed


def nested(size: int, _: Path) -> Callable[[], object]:
    """One request with a long list of objects."""
    inner = b",".join([b'{"a":1}'] * size)
    return lambda: decode_request(b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"b":[' + inner + b"]}}")


def settle(end: Any) -> None:
    """Let everything come back that is under way."""
    while end.strands:
        end.work(next(iter(end.strands)))


def receiving(size: int, _: Path) -> Callable[[], object]:
    """A manifest and the content of so many small files."""
    server = Pair([], MemoryDisk()).server
    server.arrive(encode(hello("desk")) + encode(offer()))
    entries = [messages.FileEntry(number, [b"%06d" % number], 0, 1, 0o644) for number in range(size)]
    from ftx.core.blocks import block_digest

    content = b"".join(b"".join(data_frames(number, 0, b"", block_digest([]))) for number in range(size))

    def feed() -> None:
        for start in range(0, size, 100):
            server.arrive(encode(messages.Manifest(entries[start : start + 100], start + 100 >= size)))
            settle(server)
        server.arrive(content)
        settle(server)
        assert server.error is None
        assert len(server.disk.files) == size

    return feed


def sending(size: int, _: Path) -> Callable[[], object]:
    """So many small files announced, and each answered by a result."""
    client = Pair(list(items({b"%06d" % number: b"" for number in range(size)})), MemoryDisk()).client

    def feed() -> None:
        client.arrive(encode(hello("attic", signed_in=True)))
        client.arrive(encode(messages.Accept(bytes(range(16)), 2048, 4096, 2, 0)))
        settle(client)
        for start in range(0, size, 100):
            client.arrive(encode(messages.Results([messages.Skipped(number) for number in range(start, start + 100)])))
            settle(client)
        assert client.error is None

    return feed


def ordering(size: int, _: Path) -> Callable[[], object]:
    """A folder of so many names."""
    order = ManifestOrder()

    def feed() -> None:
        for number in range(size):
            order.entry(number, [b"%06d" % number], folder=False)

    return feed


def crowding(size: int, _: Path) -> Callable[[], object]:
    """So many strangers from three sources, of whom each makes room for the next."""
    strangers: Strangers[int] = Strangers()
    for number in range(200):
        strangers.add(-number - 1, f"{number % 3}")

    def feed() -> None:
        for number in range(size):
            going = strangers.least(lambda _: False)
            assert going is not None
            strangers.forget(going)
            strangers.add(number, f"{number % 3}")

    return feed


def known(size: int, folder: Path) -> Callable[[], object]:
    """A file of so many peers."""
    path = folder / f"{size}.toml"
    rows = [
        f'[[peer]]\nname = "p{number}"\nid = "{format_id(number.to_bytes(32, "big"))}"\naddresses = []\nadded = "x"\n'
        for number in range(size)
    ]
    path.write_text(f"version = 1\ncount = {size}\n" + "\n".join(rows))
    path.chmod(0o600)
    return lambda: peers.load(str(path))


def showing(size: int, _: Path) -> Callable[[], object]:
    """A long text with something in it to clean."""
    return lambda: show("a\x1b" * size, 10**9)


CASES: dict[str, tuple[Callable[[int, Path], Callable[[], object]], int]] = {
    "a line byte by byte": (splitting, 3000),
    "many requests": (requests, 200),
    "a long request": (nested, 1000),
    "a receiver's manifest": (receiving, 500),
    "a sender's results": (sending, 500),
    "names in order": (ordering, 1000),
    "strangers at the door": (crowding, 1000),
    "a file of peers": (known, 300),
    "a text to be shown": (showing, 2000),
}


@pytest.mark.parametrize("case", CASES)
def test_twice_the_input_is_twice_the_work(case: str, tmp_path: Path) -> None:
    """And never four times."""
    make, size = CASES[case]
    python_calls(make(10 if case != "a sender's results" else 100, tmp_path))  # what is made once only
    one, two = python_calls(make(size, tmp_path)), python_calls(make(2 * size, tmp_path))
    assert one > size / 2
    assert two < 2.3 * one + 100, (one, two)
