"""The entries of a batch, sorted: together where they are alike, one by one where one of them is not."""

from __future__ import annotations

import random

import pytest

from ftx import limits
from ftx.disk.names import NameRules, check_path
from ftx.disk.runs import Entry, Sorting
from ftx.disk.store import FileEntry, FolderEntry, PipeEntry
from ftx.errors import FtxError
from ftx.limits import DEPTH, FILE_SIZE, PATH

USUAL = NameRules()


def file(number: int, *path: bytes, size: int = 1, mtime: int = 0) -> FileEntry:
    """A file that is offered."""
    return FileEntry(number, path, size, mtime, 0o644)


def sort(
    entries: list[Entry], into: tuple[bytes, ...] = (), rules: NameRules = USUAL
) -> tuple[Sorting, dict[int, str]]:
    """`entries` sorted, and the errors of those refused."""
    refused: dict[int, str] = {}

    def refuse(entry: Entry, error: FtxError) -> None:
        assert entry.number not in refused
        refused[entry.number] = error.name

    sorting = Sorting(into, rules, refuse)
    sorting.sort(entries)
    return sorting, refused


def test_neighbours_in_a_folder_are_one_run() -> None:
    """What is no file between them parts a run, as another folder does."""
    sorting, refused = sort(
        [
            file(0, b"a"),
            file(1, b"b"),
            FolderEntry(2, (b"d",)),
            file(3, b"d", b"a"),
            file(4, b"d", b"b"),
            PipeEntry(5, (b"d", b"p"), 0, 0),
            file(6, b"d", b"q"),
            file(7, b"z"),
        ],
        (b"in", b"to"),
    )
    assert refused == {}
    assert [(run.folder, [one.number for one in run.files], run.names) for run in sorting.runs] == [
        ((b"in", b"to"), [0, 1], [b"a", b"b"]),
        ((b"in", b"to", b"d"), [3, 4], [b"a", b"b"]),
        ((b"in", b"to", b"d"), [6], [b"q"]),
        ((b"in", b"to"), [7], [b"z"]),
    ]
    assert sorting.runs[1].paths == [b"in/to/d/a", b"in/to/d/b"]
    assert [(entry.number, path) for entry, path in sorting.folders] == [(2, (b"in", b"to", b"d"))]
    assert [(entry.number, path) for entry, path in sorting.pipes] == [(5, (b"in", b"to", b"d", b"p"))]


def test_one_bad_entry_spoils_no_other() -> None:
    """Each is refused for its own reason, and the rest of the run stays."""
    sorting, refused = sort(
        [
            file(0, b"d", b"a"),
            file(1, b"d", b"b/c"),
            file(2, b"d", b".."),
            file(3, b"d", b".hidden"),
            file(4, b"d", b"e", size=-1),
            file(5, b"d", b"f", size=FILE_SIZE + 1),
            file(6, b"d", b"g", mtime=2**63),
            file(7, b"d", b"h\n"),
            file(8, b"d", b".ftx"),
            file(9, b"d", b"z", size=FILE_SIZE, mtime=-(2**63)),
        ]
    )
    bad = "bad-name"
    out = "bad-message"
    assert refused == {1: bad, 2: bad, 4: out, 5: out, 6: out, 7: bad, 8: bad}
    (run,) = sorting.runs
    assert run.names == [b"a", b".hidden", b"z"]
    assert run.paths == [b"d/a", b"d/.hidden", b"d/z"]


def test_what_has_no_path_or_a_bad_folder() -> None:
    """Nothing is stored in a folder that cannot be."""
    sorting, refused = sort(
        [
            file(0),
            FolderEntry(1, ()),
            PipeEntry(2, (), 0, 0),
            file(3, b".ftx", b"a"),
            file(4, b".ftx", b"b"),
            file(5, *[b"d"] * DEPTH, b"a"),
            FolderEntry(6, (b"a", b"..")),
            file(7, b".dot"),
        ]
    )
    assert refused == dict.fromkeys(range(8), "bad-name")
    assert (sorting.runs, sorting.folders, sorting.pipes) == ([], [], [])
    assert sort([file(0, b".dot")], rules=NameRules(dot_at_top=True))[1] == {}


def test_the_whole_path_is_bounded() -> None:
    """A name that fits its folder, and one that is a byte too long for it."""
    folder = (b"x" * 200,) * (PATH // 201)
    room = PATH - sum(map(len, folder)) - len(folder)
    assert 0 < room < 255
    sorting, refused = sort([file(0, *folder, b"y" * room), file(1, *folder, b"y" * (room + 1))])
    assert refused == {1: "bad-name"}
    assert [one.number for one in sorting.runs[0].files] == [0]
    assert len(sorting.runs[0].paths[0]) == PATH


_NAMES = [
    *[b"", b".", b"..", b"...", b"/", b"a/b", b"a\0", b"\n", b"\x7f", b".a", b".ftx", b".FTX", b"a.", b"a "],
    *[b"\xc2", b"\xc2\x85", b"\xc2\xa0", b"\x85", b"\xff\xfe", b"x" * limits.NAME, b"x" * (limits.NAME + 1)],
]


def _alone(entry: Entry, into: tuple[bytes, ...], rules: NameRules) -> tuple[bytes, ...] | None:
    """The path of an entry that nobody looked at together with others; None where it cannot be stored."""
    in_range = not isinstance(entry, FileEntry) or (
        0 <= entry.size <= FILE_SIZE and -(2**63) <= entry.mtime_ns < 2**63
    )
    path = (*into, *entry.path)
    try:
        check_path(path, rules)
    except FtxError:
        return None
    return path if entry.path and in_range else None


@pytest.mark.parametrize("seed", range(20))
def test_together_they_are_what_each_is_alone(seed: int) -> None:
    """Any names in any folders, under any rules: nothing passes in a run that would not pass by itself."""
    chance = random.Random(seed)

    def name() -> bytes:
        return chance.choice(_NAMES) if chance.random() < 0.06 else b"n%d" % chance.randrange(50)

    for _ in range(25):
        into = tuple(name() for _ in range(chance.choice([0, 0, 1, 2])))
        rules = NameRules(chance.random() < 0.5, chance.random() < 0.5)
        entries: list[Entry] = []
        folder: tuple[bytes, ...] = ()
        for number in range(12):
            if chance.random() < 0.3:
                depth = chance.choice([0, 1, 2, 15, 16, 17, DEPTH - 1, DEPTH])
                folder = tuple(chance.choice([b"d" * 255, b"e", name()]) for _ in range(depth))
            path = (*folder, name()) if chance.random() > 0.02 else ()
            odd, kind = chance.random() < 0.05, chance.random()
            size = chance.choice([-1, 0, FILE_SIZE, FILE_SIZE + 1]) if odd else 1
            mtime = chance.choice([-(2**63) - 1, -(2**63), 2**63 - 1, 2**63]) if odd else 0
            if kind < 0.8:
                entries.append(file(number, *path, size=size, mtime=mtime))
            else:
                entries.append(FolderEntry(number, path) if kind < 0.9 else PipeEntry(number, path, 0, 0o644))
        sorting, refused = sort(entries, into, rules)
        found = {entry.number: path for entry, path in [*sorting.folders, *sorting.pipes]}
        for run in sorting.runs:
            for one, last, whole in zip(run.files, run.names, run.paths, strict=True):
                found[one.number] = (*run.folder, last)
                assert whole == b"/".join(found[one.number])
        alone = {entry.number: _alone(entry, into, rules) for entry in entries}
        assert found == {number: path for number, path in alone.items() if path is not None}
        assert refused.keys() == {number for number, path in alone.items() if path is None}
