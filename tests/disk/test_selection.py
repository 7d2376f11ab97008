"""What of the sources is sent: patterns and links, in the walk and in the count alike."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.core.links import stays_inside
from ftx.disk.selection import Selection
from ftx.disk.source import SourceFile, SourceFolder, SourceFolderEnd, SourceLink, SourceProblem, Walk, count, roots
from ftx.errors import FtxError


def told(top: Path, selection: Selection) -> list[str]:
    """A walk of `top` as text, without the name of `top`; the count must say the same."""
    found = roots([os.fspath(top)], "/")
    items = Walk(found, selection).batch(10_000)
    lines = []
    for item in items:
        name = os.fsdecode(b"/".join(item.path[1:]))
        match item:
            case SourceFile():
                lines.append(name)
            case SourceFolder():
                lines.append(name + "/")
            case SourceLink():
                lines.append(f"{name} -> {os.fsdecode(item.target)}")
            case SourceProblem():
                lines.append(f"{name}: {item.error.name}")
            case SourceFolderEnd():
                pass
    totals = count(found, selection=selection)
    files = [item for item in items if isinstance(item, SourceFile)]
    links = [item for item in items if isinstance(item, SourceLink)]
    assert totals.bytes == sum(file.size for file in files) + sum(len(link.target) for link in links)
    assert totals.files == len(files) + len(links)
    assert totals.folders == sum(isinstance(item, SourceFolder) for item in items)
    for file in files:
        assert os.stat(file.local).st_ino == file.inode
    return lines


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with things in it that nobody wants to send."""
    top = tmp_path / "top"
    for folder in ("build/deep", "src/build", "src/cache", "empty"):
        (top / folder).mkdir(parents=True)
    names = ("a.o", "keep.o", "build/x", "build/deep/y", "src/a.c", "src/a.o", "src/build/z", "src/cache/c", "t\nx")
    for name in names:
        (top / name).write_text(name)
    return top


def test_nothing_is_left_out_by_default(tree: Path) -> None:
    """Not even what a .gitignore in the tree names: that is a file like any other."""
    (tree / ".gitignore").write_text("*\n")
    assert len(told(tree, Selection())) == 17


def test_patterns_are_those_of_gitignore(tree: Path) -> None:
    """Anchored ones, folders, re-inclusion, any depth; what is in an excluded folder is never looked at."""
    selection = Selection.of(["*.o", "!keep.o", "/build", "cache/"])
    assert told(tree, selection) == ["/", "empty/", "keep.o", "src/", "src/a.c", "src/build/", "src/build/z", "t\nx"]
    assert told(tree, Selection.of(["build", "!build/x", "src/**/c", "t"]))[1:] == [
        "a.o", "empty/", "keep.o", "src/", "src/a.c", "src/a.o", "src/cache/", "t\nx",
    ]  # fmt: skip
    assert told(tree, Selection.of(["*", "!src/", "!*.c"])) == ["/", "src/", "src/a.c"]
    assert told(tree, Selection.of(["src/**", "*.o", "/build"])) == ["/", "empty/", "src/", "t\nx"]
    assert told(tree, Selection.of(["*", "!*/", "!*.c"])) == [
        "/", "build/", "build/deep/", "empty/", "src/", "src/a.c", "src/build/", "src/cache/",
    ]  # fmt: skip


def test_a_named_source_is_sent_whatever_the_patterns_say(tree: Path) -> None:
    """Who names a file wants it."""
    assert told(tree, Selection.of(["top", "*"])) == ["/"]
    assert told(tree / "a.o", Selection.of(["*.o"])) == [""]


def test_an_excluded_folder_needs_no_right_to_be_read(tree: Path) -> None:
    """Nothing in it is opened: no problem is told of, and it may vanish."""
    (tree / "src" / "loop").symlink_to("loop")
    os.mkfifo(tree / "src" / "pipe")
    assert told(tree, Selection.of(["/src", "*.o"]))[1:] == [
        "build/", "build/deep/", "build/deep/y", "build/x", "empty/", "t\nx",
    ]  # fmt: skip


def test_names_are_any_bytes(tmp_path: Path) -> None:
    """Undecodable ones, newlines, and names that look like patterns."""
    top = tmp_path / "top"
    top.mkdir()
    for name in (b"\xff.o", b"\xff.c", b"[a]", b"a", b"two\nlines", b"two"):
        (top / os.fsdecode(name)).write_bytes(b"")
    assert told(top, Selection.of(["*.o", "\\[a\\]", "two"]))[1:] == ["a", "two\nlines", os.fsdecode(b"\xff.c")]
    assert told(top, Selection.of(["two\nlines", os.fsdecode(b"\xff*")]))[1:] == ["[a]", "a", "two"]


@pytest.mark.parametrize("pattern", ["", "!", "# a comment", "a\\", " ", "/"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    """It would be ignored without a word."""
    with pytest.raises(FtxError) as caught:
        Selection.of(["fine", pattern])
    assert caught.value.name == "usage"


# -- links -----------------------------------------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A tree with every kind of link in it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o").write_text("outside")
    top = tmp_path / "top"
    (top / "d" / "e").mkdir(parents=True)
    (top / "d" / "f").write_text("file")
    for name, target in {
        "to-file": "d/f",
        "to-folder": "d",
        "gone": "nowhere",
        "absolute": str(outside / "o"),
        "up": "../outside",
        "d/e/back": "../../d/f",
        "d/e/loop": "..",
        "d/self": "self",
    }.items():
        (top / name).symlink_to(target)
    return top


def test_links_are_skipped_and_told_of(linked: Path) -> None:
    """Unless something else is asked for."""
    assert told(linked, Selection()) == [
        "/", "absolute: special-file", "d/", "d/e/", "d/e/back: special-file", "d/e/loop: special-file", "d/f",
        "d/self: special-file", "gone: special-file", "to-file: special-file", "to-folder: special-file",
        "up: special-file",
    ]  # fmt: skip


def test_links_are_followed(linked: Path) -> None:
    """Anywhere; one that leads nowhere is a failure, one that leads into a folder that it is in is not entered."""
    assert told(linked, Selection.of(links="follow")) == [
        "/", "absolute", "d/", "d/e/", "d/e/back", "d/e/loop: special-file", "d/f", "d/self: source-unreadable",
        "gone: source-missing", "to-file", "to-folder/", "to-folder/e/", "to-folder/e/back",
        "to-folder/e/loop: special-file", "to-folder/f", "to-folder/self: source-unreadable", "up/", "up/o",
    ]  # fmt: skip


def test_links_are_kept_where_they_stay_inside(linked: Path) -> None:
    """After everything else; those that lead out are told of. That a link leads nowhere is its own business."""
    assert told(linked, Selection.of(links="keep")) == [
        "/", "d/", "d/e/", "d/f", "absolute: special-file", "d/e/back -> ../../d/f", "d/e/loop -> ..", "d/self -> self",
        "gone -> nowhere", "to-file -> d/f", "to-folder -> d", "up: special-file",
    ]  # fmt: skip


def test_patterns_see_links(linked: Path) -> None:
    """As what they are sent as: a followed link to a folder matches a pattern for folders."""
    patterns = ["absolute", "gone", "up", "self", "loop", "back"]
    assert told(linked, Selection.of([*patterns, "to-folder/"], "follow"))[-1] == "to-file"
    assert told(linked, Selection.of([*patterns, "to-folder/"], "keep"))[-1] == "to-folder -> d"
    assert told(linked, Selection.of([*patterns, "to-folder"], "keep"))[-1] == "to-file -> d/f"


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("t/a", "b", True),
        ("t/a", "./b/./c/", True),
        ("t/a", "..", False),
        ("t/a", "../t/b", False),
        ("t/d/a", "..", True),
        ("t/d/a", "../x", True),
        ("t/d/a", "./../x", True),
        ("t/d/a", "../..", False),
        ("t/d/a", "x/..", False),
        ("t/d/a", "/etc", False),
        ("t/d/a", "", False),
        ("t", "a", False),
        ("t", "..", False),
        ("t/a", "x" * 4096, False),
        ("t/a", "a\0b", False),
    ],
)
def test_which_links_stay_inside(path: str, target: str, inside: bool) -> None:
    """`..` only at the beginning, and never above the tree."""
    assert stays_inside(path.encode().split(b"/"), target.encode()) is inside


NAMES = st.sampled_from([b"a", b"b", b"c", b"..", b".", b""])
TARGETS = st.lists(NAMES, min_size=1, max_size=5).map(b"/".join)
PLACES = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(tuple)


@given(st.dictionaries(PLACES, TARGETS, max_size=8))
def test_no_chain_of_kept_links_leads_out(links: dict[tuple[bytes, ...], bytes]) -> None:
    """Whatever the links of a tree are: the kernel's way of following them never passes above the tree."""
    kept = {place: target for place, target in links.items() if stays_inside((b"t", *place), target)}
    for place in kept:
        here: list[bytes] = []
        todo = list(place)
        for _ in range(60):  # as many as ELOOP and the lengths allow
            if not todo:
                break
            component = todo.pop(0)
            if component in (b"", b"."):
                continue
            if component == b"..":
                assert here, f"{place} leads out of {kept}"
                here.pop()
            elif (*here, component) in kept:
                todo = kept[*here, component].split(b"/") + todo
            else:
                here.append(component)
