"""What a small file costs in calls of functions: on its way from a folder to frames, looked up, and stored."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from support.counted import python_calls
from support.inboxes import PEER, Sending
from support.trees import make_tree

from ftx.core.blocks import block_digest
from ftx.disk import many
from ftx.disk.inbox import Inbox
from ftx.disk.outgoing import read_batch
from ftx.disk.source import SourceFile, Walk, roots
from ftx.disk.store import Have, Stored, Whole

FEW, MANY = 100, 500


def found(tree: Path) -> list[tuple[int, SourceFile]]:
    """The files of `tree`, numbered."""
    items = Walk(roots([str(tree)], "/")).batch(2 * MANY)
    return [(number, item) for number, item in enumerate(items) if isinstance(item, SourceFile)]


@pytest.fixture(params=[True, False], ids=["together", "one-by-one"])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the native library, where it was built, and without it."""
    if not request.param:
        monkeypatch.setattr(many, "available", lambda: False)
    elif not many.available():
        pytest.skip("many.c was not built: no C compiler")
    return bool(request.param)


def test_calls_for_each_small_file(tmp_path: Path, together: bool) -> None:
    """To find it, and to read it, hash it, make its frames and its file digest."""
    trees = [tmp_path / "few", tmp_path / "many"]
    for tree, count in zip(trees, (FEW, MANY), strict=True):
        make_tree(tree, {f"{number}": 100 for number in range(count)})
    files = [found(tree) for tree in trees]
    walked = [python_calls(lambda tree=tree: found(tree)) for tree in trees]  # type: ignore[misc]
    read = [python_calls(lambda some=some: read_batch(some)) for some in files]  # type: ignore[misc]
    assert (walked[1] - walked[0]) / (MANY - FEW) <= (4.5 if together else 9.5)
    assert (read[1] - read[0]) / (MANY - FEW) <= (16 if together else 24.5)


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


def test_calls_for_each_file_that_is_stored(tmp_path: Path, together: bool) -> None:
    """To verify it, write it, give it time and name, and keep its record: a system call each, and what is around it."""
    content = [b"content"]
    with contextlib.closing(Inbox.open(str(tmp_path / "inbox"))) as inbox:
        counts = {}
        for count in (FEW, FEW, MANY):  # the first one opens the records
            names = {f"{count}-{number:04d}": content[0] for number in range(count)}
            sending = Sending(inbox, names, into=(b"%d-%d" % (count, len(counts)),))
            sending.offer()
            files = [Whole(want.number, content, block_digest(content)) for _, want in sending.wanted(large=False)]
            assert len(files) == count
            outcomes = []
            counts[count] = python_calls(lambda s=sending, f=files, o=outcomes: o.extend(s.store.store_whole(f)))  # type: ignore[misc]
            assert {type(outcome) for outcome in outcomes} == {Stored}
            sending.store.close()
    # one by one it is asked before each file whether it can be done with others
    assert (counts[MANY] - counts[FEW]) / (MANY - FEW) <= (32 if together else 52)
