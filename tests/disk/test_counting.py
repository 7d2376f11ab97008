"""Counting a little at a time: the same totals, in steps that end however little of what they look at is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.trees import make_tree

from ftx.disk import counting
from ftx.disk.counting import Counting, Totals
from ftx.disk.roots import roots
from ftx.disk.selection import Selection


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Forty files in four folders and a top."""
    made = tmp_path / "tree"
    make_tree(made, {f"d{number % 4}/f{number:02}": 10 for number in range(40)})
    return made


@pytest.mark.parametrize(
    ("exclude", "totals"), [((), Totals(40, 5, 400)), (("f*",), Totals(0, 5, 0)), (("*",), Totals(0, 1, 0))]
)
def test_every_name_may_be_the_last_of_a_step(tree: Path, exclude: tuple[str, ...], totals: Totals) -> None:
    """A step whose time is over ends with the next name, also where that is one that is left out."""
    step_by_step = Counting(roots([str(tree)], os.getcwd()), Selection.of(exclude), seconds=0.0)
    steps = 1
    while (found := step_by_step.step()) is None:
        steps += 1
    assert found == totals == counting.count(roots([str(tree)], os.getcwd()), selection=Selection.of(exclude))
    looked_at = 5 + 40 if "*" not in exclude else 1 + 4
    assert steps == looked_at + 1


def test_who_gives_up_leaves_nothing_open(tree: Path) -> None:
    """The folders on the way are closed, in the middle too."""
    before = os.listdir("/proc/self/fd")
    half = Counting(roots([str(tree)], os.getcwd()), seconds=0.0)
    for _ in range(7):
        assert half.step() is None
    assert len(os.listdir("/proc/self/fd")) > len(before)
    half.close()
    assert os.listdir("/proc/self/fd") == before
