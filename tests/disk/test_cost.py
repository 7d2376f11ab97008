"""What a small file costs in calls of functions: on its way from a folder to frames, and when it is looked up."""

from __future__ import annotations

import contextlib
from pathlib import Path

from support.counted import python_calls
from support.inboxes import PEER, Sending
from support.trees import make_tree

from ftx.disk.inbox import Inbox
from ftx.disk.outgoing import read_batch
from ftx.disk.source import SourceFile, Walk, roots
from ftx.disk.store import Have

FEW, MANY = 100, 500


def found(tree: Path) -> list[tuple[int, SourceFile]]:
    """The files of `tree`, numbered."""
    items = Walk(roots([str(tree)], "/")).batch(2 * MANY)
    return [(number, item) for number, item in enumerate(items) if isinstance(item, SourceFile)]


def test_calls_for_each_small_file(tmp_path: Path) -> None:
    """To find it, and to read it, hash it and make its frames."""
    trees = [tmp_path / "few", tmp_path / "many"]
    for tree, count in zip(trees, (FEW, MANY), strict=True):
        make_tree(tree, {f"{number}": 100 for number in range(count)})
    few, many = (found(tree) for tree in trees)
    walked = [python_calls(lambda tree=tree: found(tree)) for tree in trees]  # type: ignore[misc]
    read = [python_calls(lambda files=files: read_batch(files)) for files in (few, many)]  # type: ignore[misc]
    assert (walked[1] - walked[0]) / (MANY - FEW) <= 14
    assert (read[1] - read[0]) / (MANY - FEW) <= 19


def test_calls_for_each_file_that_is_there(tmp_path: Path) -> None:
    """To find out that it is what its record says: a look, two comparisons, a claim that ends."""
    with contextlib.closing(Inbox.open(str(tmp_path / "inbox"))) as inbox:
        trees = {count: {f"{number:04d}": b"content" for number in range(count)} for count in (FEW, MANY)}
        Sending(inbox, trees[MANY]).run()
        counts = {}
        for count, tree in trees.items():
            job = inbox.begin(PEER, bytes(16), (), "rename")
            entries = Sending(inbox, tree).entries()
            counts[count] = python_calls(lambda job=job, entries=entries: job.look_up(entries))  # type: ignore[misc]
            assert {type(answer) for answer in job.look_up(entries)} == {Have}
            job.close()
    assert (counts[MANY] - counts[FEW]) / (MANY - FEW) <= 4.1
