"""The order of a manifest: every tree in its order is taken, everything else is refused."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_disk import File, Folder, items

from ftx.core.order import ManifestOrder
from ftx.errors import ProtocolError
from ftx.wire.messages import FileEntry

#: What is fed: a file or folder with its number and path, or the end of a folder with its number.
Step = tuple[str, int, tuple[bytes, ...]]


def file(number: int, *path: bytes) -> Step:
    return ("file", number, path)


def folder(number: int, *path: bytes) -> Step:
    return ("folder", number, path)


def end(number: int) -> Step:
    return ("end", number, ())


def feed(steps: list[Step]) -> ManifestOrder:
    """All steps into a new checker; with files that follow each other at once, or one by one, it says the same."""
    found = []
    for feed_some in (feed_each, feed_runs):
        try:
            found.append(feed_some(steps))
        except ProtocolError as error:
            found.append(error)
    each, runs = found
    assert type(each) is type(runs)
    if isinstance(runs, ProtocolError):
        raise runs
    assert (each.complete, each.open_folder) == (runs.complete, runs.open_folder)
    return runs


def feed_each(steps: list[Step]) -> ManifestOrder:
    """Step by step."""
    order = ManifestOrder()
    for kind, number, path in steps:
        if kind == "end":
            order.folder_end(number)
        else:
            assert order.entry(number, list(path), folder=kind == "folder") == path
    return order


def feed_runs(steps: list[Step]) -> ManifestOrder:
    """Files that follow each other at once."""
    order = ManifestOrder()
    for kind, run in groupby(steps, itemgetter(0)):
        if kind == "file":
            entries = [FileEntry(number, list(path), 0, 0, 0) for _, number, path in run]
            assert order.files(entries) == [tuple(entry.path) for entry in entries]
            continue
        for _, number, path in run:
            if kind == "end":
                order.folder_end(number)
            else:
                assert order.entry(number, list(path), folder=True) == path
    return order


GOOD: dict[str, list[Step]] = {
    "nothing": [],
    "files": [file(0, b"a"), file(1, b"a.txt"), file(2, b"aa"), file(3, b"b"), file(4, b"\xff")],
    "nested": [
        folder(0, b"a"),
        folder(1, b"a", b"b"),
        file(2, b"a", b"b", b"c"),
        end(1),
        file(3, b"a", b"b.txt"),
        end(0),
        file(4, b"a.txt"),
    ],
    "same name elsewhere": [folder(0, b"a"), file(1, b"a", b"x"), end(0), folder(2, b"b"), file(3, b"b", b"x"), end(2)],
    "empty folders": [folder(0, b"a"), end(0), folder(1, b"b"), end(1)],
}
BAD: dict[str, list[Step]] = {
    "duplicate": [file(0, b"a"), file(1, b"a")],
    "falling": [file(0, b"b"), file(1, b"a")],
    "case is not order": [file(0, b"a"), file(1, b"B")],
    "folder after file of the same name": [file(0, b"a"), folder(1, b"a")],
    "file after folder of the same name": [folder(0, b"a"), end(0), file(1, b"a")],
    "folder again": [folder(0, b"a"), end(0), folder(1, b"a")],
    "child before its folder": [file(0, b"a", b"b")],
    "child of a file": [file(0, b"a"), file(1, b"a", b"b")],
    "child of a closed folder": [folder(0, b"a"), end(0), file(1, b"a", b"b")],
    "child of another folder": [folder(0, b"a"), file(1, b"b", b"c")],
    "sibling before the end": [folder(0, b"a"), file(1, b"b")],
    "too deep": [folder(0, b"a"), file(1, b"a", b"b", b"c")],
    "falling after a folder": [folder(0, b"b"), end(0), file(1, b"a")],
    "falling within": [folder(0, b"a"), file(1, b"a", b"y"), file(2, b"a", b"x")],
    "number skipped": [file(1, b"a")],
    "number again": [file(0, b"a"), file(0, b"b")],
    "end of nothing": [end(0)],
    "end at the top": [end(-1)],
    "end of a file": [file(0, b"a"), end(0)],
    "end twice": [folder(0, b"a"), end(0), end(0)],
    "end of the outer first": [folder(0, b"a"), folder(1, b"a", b"b"), end(0)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_orders(name: str) -> None:
    """Taken, and complete at the end."""
    order = feed(GOOD[name])
    assert order.complete
    assert order.open_folder == -1


@pytest.mark.case("C55", "C56", "C57")
@pytest.mark.parametrize("name", BAD)
def test_bad_orders(name: str) -> None:
    """Refused at the last step, and only there."""
    steps = BAD[name]
    feed(steps[:-1])
    with pytest.raises(ProtocolError) as caught:
        feed(steps)
    assert caught.value.name == "bad-message"


def test_open_folder() -> None:
    """The innermost one; the manifest is not complete while there is one."""
    order = feed([folder(0, b"a"), folder(1, b"a", b"b")])
    assert order.open_folder == 1
    assert not order.complete
    order.folder_end(1)
    assert order.open_folder == 0


NAMES = st.binary(min_size=1, max_size=2).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
TREES = st.recursive(st.just(b""), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)


def steps_of(tree: Any) -> list[Step]:
    """A tree as a manifest."""
    found: list[Step] = []
    numbers: dict[tuple[bytes, ...], int] = {}
    for item in items(tree):
        if isinstance(item, File | Folder):
            numbers[item.path] = len(numbers)
            found.append(("file" if isinstance(item, File) else "folder", numbers[item.path], item.path))
        else:
            found.append(end(numbers[item.path]))
    return found


@settings(max_examples=60)
@given(st.dictionaries(NAMES, TREES, max_size=4), st.data())
def test_any_tree_and_no_other_order(tree: Any, data: Any) -> None:
    """A walk of any tree is in order; with two neighbouring steps exchanged, or one of them twice, it is not."""
    steps = steps_of(tree)
    assert feed(steps).complete
    if len(steps) < 2:
        return
    at = data.draw(st.integers(0, len(steps) - 2))
    for broken in (
        [*steps[:at], steps[at + 1], steps[at], *steps[at + 2 :]],
        [*steps[: at + 1], *steps[at:]],
    ):
        try:
            accepted = feed(broken).complete
        except ProtocolError:
            accepted = False
        assert not accepted, broken


@pytest.mark.case("C57", "C58")
def test_memory_does_not_grow_with_the_manifest() -> None:
    """What is kept is what is open."""
    order = ManifestOrder()
    for number in range(5000):
        order.entry(number, [b"%05d" % number], folder=number % 2 == 0)
        if number % 2 == 0:
            order.folder_end(number)
    assert len(order._stack) == 1


def test_symlinks_come_last_in_an_order_of_their_own() -> None:
    """Behind the last folder-end, rising by components; nothing else follows."""
    order = feed([folder(0, b"a"), file(1, b"a", b"x"), end(0), file(2, b"b")])
    for number, path in enumerate([(b"a", b"l"), (b"a", b"l", b"m"), (b"a", b"l.b"), (b"b", b"a")], 3):
        assert order.symlink(number, list(path)) == path
    for wrong in [(7, [b"b", b"a"]), (7, [b"a", b"z"]), (8, [b"c", b"a"])]:
        with pytest.raises(ProtocolError) as caught:
            order.symlink(*wrong)
        assert caught.value.name == "bad-message"
    with pytest.raises(ProtocolError):
        order.entry(7, [b"c"], folder=False)
    with pytest.raises(ProtocolError):
        order.files([FileEntry(7, [b"c"], 0, 0, 0)])


def test_no_symlink_inside_an_open_folder() -> None:
    """They are a pass of their own."""
    order = feed([folder(0, b"a")])
    with pytest.raises(ProtocolError):
        order.symlink(1, [b"a", b"l"])
