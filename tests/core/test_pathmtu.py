"""Finding the path MTU: with routers that say so, and with those that say nothing."""

from __future__ import annotations

import pytest

from ftx.core.pathmtu import PathMtu


def search(version: int, link: int, path: int, *, says: bool, hint: bool = True) -> tuple[PathMtu, int]:
    """A search where packets over `path` do not pass; and how many echoes it took."""
    machine, tries = PathMtu(version, link), 0
    while (size := machine.next_size()) is not None:
        tries += 1
        if size <= path:
            machine.passed(size)
        elif says:
            machine.refused(size, path if hint else 0)
        else:
            machine.lost(size)
    return machine, tries


@pytest.mark.parametrize("version", [4, 6])
def test_nothing_in_the_way(version: int) -> None:
    """One echo tells."""
    machine, tries = search(version, 1500, 9000, says=True)
    assert (machine.passes, machine.black_hole, tries) == (1500, False, 1)


@pytest.mark.parametrize("path", [1492, 1420, 1337, 1280])
def test_a_router_that_says_so(path: int) -> None:
    """Two echoes, for whatever size it names."""
    machine, tries = search(4, 1500, path, says=True)
    assert (machine.passes, machine.black_hole, tries) == (path, False, 2)


@pytest.mark.parametrize(("version", "path"), [(4, 1492), (4, 1420), (4, 1380), (4, 576), (6, 1420), (6, 1280)])
@pytest.mark.parametrize("says", [True, False])
def test_sizes_that_links_have_are_found_without_help(version: int, path: int, says: bool) -> None:
    """Where nothing is said, or not what would do; in a bounded number of echoes."""
    machine, tries = search(version, 1500, path, says=says, hint=False)
    assert machine.passes == path
    assert machine.black_hole is not says
    assert tries <= 16


def test_a_size_between_is_found_from_below() -> None:
    """1,350 bytes: the size of a link that is next below."""
    assert search(4, 1500, 1350, says=False)[0].passes == 1340


def test_nobody_answers() -> None:
    """It ends, and says that nothing passes."""
    machine, tries = search(4, 1500, 0, says=False)
    assert (machine.passes, machine.black_hole) == (0, True)
    assert tries <= 16


def test_one_lost_echo_is_no_black_hole() -> None:
    """It is tried again."""
    machine = PathMtu(4, 1500)
    machine.lost(1500)
    assert machine.next_size() == 1500
    machine.passed(1500)
    assert (machine.next_size(), machine.passes, machine.black_hole) == (None, 1500, False)


def test_a_router_that_lies_about_what_would_do() -> None:
    """Larger than what it refused, or smaller than there can be: as if it had said nothing."""
    for lie in (1500, 9000, 40):
        machine = PathMtu(4, 1500)
        machine.refused(1500, lie)
        assert machine.next_size() is not None
        assert 576 <= machine.next_size() < 1500  # type: ignore[operator]
