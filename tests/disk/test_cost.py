"""What a small file costs on its way from a folder to frames, in calls of functions."""

from __future__ import annotations

from pathlib import Path

from support.counted import python_calls
from support.trees import make_tree

from ftx.disk.outgoing import read_batch
from ftx.disk.source import SourceFile, Walk, roots

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
    assert (walked[1] - walked[0]) / (MANY - FEW) <= 19
    assert (read[1] - read[0]) / (MANY - FEW) <= 27
