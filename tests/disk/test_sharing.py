"""Shares: what they are called, what is found in them, and what never is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftx import limits
from ftx.disk.selection import Selection
from ftx.disk.shares import Shares, ShareSetting, check_share, overlapping, share_tables, shares_of
from ftx.disk.shown import Shown
from ftx.disk.source import OpenSource, SourceFile, SourceFolder, SourceProblem, Walk, count, read_whole
from ftx.errors import FtxError
from ftx.wire.messages import ItemKind


def all_seen(setting: ShareSetting) -> bool:
    """Whoever asks may see everything."""
    return True


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    (made / "sub" / "deep").mkdir(parents=True)
    (made / "sub" / "file").write_bytes(b"content")
    (made / "sub" / "deep" / "er").write_bytes(b"")
    (made / "link").symlink_to("/etc")
    (made / "sub" / "out").symlink_to("../../secret")
    (made / ".ftx").mkdir()
    (made / ".ftx" / "partial").write_bytes(b"private")
    (tmp_path / "secret").write_bytes(b"secret")
    return made


def shares(tree: Path, *hidden: Path, **more: str) -> Shares:
    """The tree as `s`, and others by name."""
    settings = [ShareSetting("s", str(tree)), *(ShareSetting(name, path) for name, path in more.items())]
    return Shares(settings, [str(path) for path in hidden])


def error_of(call, *args) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(FtxError) as caught:
        call(*args)
    return caught.value.name


@pytest.mark.parametrize(
    "text", ["photos", "photos=", "=x", "a/b=/x", "..=/x", ".hidden=/x", ".ftx=/x", "a\n=/x", "x" * 256 + "=/x"]
)
def test_what_is_no_share(text: str) -> None:
    """One plain name, and a path."""
    assert error_of(check_share, text) == "usage"


def test_settings(tmp_path: Path) -> None:
    """Texts and tables; a name is there once, a key is known or wrong."""
    assert check_share("a=b=c") == "a=b=c"
    assert shares_of(["a=x", "b=/y"], "/cwd") == (ShareSetting("a", "/cwd/x"), ShareSetting("b", "/y"))
    assert error_of(shares_of, ["a=x", "a=y"], "/cwd") == "usage"
    tables = {"a": {"path": "x", "public": True}, "b": {"path": "/y", "with_inbox": True}}
    assert share_tables(tables, "config.toml", "/cwd") == (
        ShareSetting("a", "/cwd/x", public=True),
        ShareSetting("b", "/y", with_inbox=True),
    )
    misspelt = {"a": {"path": "x", "publik": True}}
    for wrong in ({"a": {}}, {"a": {"path": 5}}, misspelt, {"a/b": {"path": "x"}}, {"a": 1}):
        assert error_of(share_tables, wrong, "config.toml", "/cwd") == "config-invalid"
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    (tmp_path / "link").symlink_to(inside)
    assert overlapping(str(tmp_path), str(inside))
    assert overlapping(str(tmp_path / "link"), str(tmp_path / "in"))
    assert not overlapping(str(tmp_path / "in"), str(tmp_path / "inbox"))


def test_what_cannot_be_shared(tmp_path: Path) -> None:
    """It is told at the start, and nothing stays open."""
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path / "none", tmp_path / "fifo"):
        assert error_of(Shares, [ShareSetting("ok", str(tmp_path)), ShareSetting("s", str(path))]) == "config-invalid"
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "path",
    [
        (b"none",),
        (b"s", b"none"),
        (b"s", b"link"),
        (b"s", b"link", b"passwd"),
        (b"s", b"sub", b"out"),
        (b"s", b".ftx"),
        (b"s", b".FTX", b"partial"),
        (b"s", b".ftx", b"partial"),
        (b"s", b"sub", b"file", b"x"),
        (b"one", b"x"),
        (b"s", b"sub", b"key"),
        (b"s", b"home", b"key"),
    ],
)
def test_what_is_not_there(tree: Path, path: tuple[bytes, ...]) -> None:
    """Links, what is reserved, and what is hidden, by whatever name: all of it is simply not there."""
    (tree / "home").mkdir()
    (tree / "home" / "key").write_bytes(b"key")
    os.link(tree / "home" / "key", tree / "sub" / "key")
    opened = shares(tree, tree / "home", tree / "home" / "key", one=str(tree / "sub" / "file"))
    assert error_of(opened.find, path, all_seen) == "not-shared"
    assert error_of(opened.sources, [path], all_seen) == "not-shared"
    opened.done()


def test_who_may_not_see_it_finds_nothing(tree: Path) -> None:
    """It is the same error, and the list does not have it."""
    opened = shares(tree, other=str(tree))
    assert error_of(opened.find, (b"s", b"sub"), lambda setting: setting.name == "other") == "not-shared"
    assert [item.path for item in opened.items(lambda setting: setting.name == "other")] == [[b"other"]]
    opened.done()


def test_what_is_sent(tree: Path) -> None:
    """Walk and count agree; files are read through the share, also when a folder becomes a link meanwhile."""
    opened = shares(tree, one=str(tree / "sub" / "file"))
    roots = opened.sources([(b"s",), (b"one",)], all_seen)
    items = Walk(roots).batch(100)
    files = [item for item in items if isinstance(item, SourceFile)]
    assert [file.path for file in files] == [(b"one",), (b"s", b"sub", b"deep", b"er"), (b"s", b"sub", b"file")]
    assert count(roots).files == 3
    assert [read_whole(file) for file in files] == [b"content", b"", b"content"]
    (below,) = opened.sources([(b"s", b"sub", b"deep")], all_seen)
    assert [item.path for item in Walk([below]).batch(9)][:2] == [(b"deep",), (b"deep", b"er")]
    assert error_of(opened.sources, [(b"s", b"sub"), (b"x", b"sub")], all_seen) == "not-shared"
    assert error_of(opened.sources, [(b"s", b"sub"), (b"s", b"sub")], all_seen) == "bad-message"
    (tree / "sub").rename(tree / "moved")
    (tree / "sub").symlink_to("moved")
    assert error_of(read_whole, files[2]) in ("source-changed", "source-vanished")
    assert error_of(OpenSource.open, files[2]) in ("source-changed", "source-vanished")
    opened.done()


def linked(tree: Path) -> None:
    """Links of every kind, beside the two of the tree that lead out."""
    for name, target in {
        "file": "sub/file",
        "folder": "sub/deep/",
        "chain": "file",
        "sub/up": "../sub/./deep/../file",
        "loop": "loop",
        "back": ".",
        "gone": "sub/none",
        "far": str(tree / "sub" / "file"),
        "private": ".ftx/partial",
        "cover": "sub/to private",
        "sub/to private": "../.ftx",
        "round": f"../{tree.name}/sub/file",
    }.items():
        (tree / name).symlink_to(target)


def test_links_are_followed_inside_a_share(tree: Path) -> None:
    """What they lead to stands in their place, files and folders; what leads out, or to what is hidden, does not."""
    linked(tree)
    opened = shares(tree)
    follow = Selection.of((), "follow")
    roots = opened.sources([(b"s",)], all_seen, True)
    items = Walk(roots, follow).batch(100)
    files = {b"/".join(item.path[1:]): read_whole(item) for item in items if isinstance(item, SourceFile)}
    content = b"content"
    assert files == {
        b"sub/file": content, b"file": content, b"chain": content, b"sub/up": content, b"sub/deep/er": b"",
        b"folder/er": b"",
    }  # fmt: skip
    folders = [b"/".join(item.path[1:]) for item in items if isinstance(item, SourceFolder)]
    assert folders == [b"", b"folder", b"sub", b"sub/deep"]
    wrong = {b"/".join(item.path[1:]): item.error.name for item in items if isinstance(item, SourceProblem)}
    assert wrong == {
        b"back": "special-file", b"cover": "source-missing", b"far": "special-file", b"gone": "source-missing",
        b"link": "special-file", b"loop": "source-unreadable", b"private": "source-missing",
        b"round": "special-file", b"sub/out": "special-file", b"sub/to private": "source-missing",
    }  # fmt: skip
    totals = count(roots, selection=follow)
    assert (totals.files, totals.folders, totals.bytes) == (6, 4, 4 * len(content))
    opened.done()


def test_links_in_what_is_asked_for(tree: Path) -> None:
    """They are part of the way only for who wants them followed."""
    linked(tree)
    opened = shares(tree, tree / "sub" / "deep" / "er")
    for path, found in (((b"s", b"chain"), b"file"), ((b"s", b"folder"), b"deep"), ((b"s", b"back", b"file"), b"file")):
        assert error_of(opened.sources, [path], all_seen) == "not-shared"
        (source,) = opened.sources([path], all_seen, True)
        assert source.held is not None
        assert (source.name, source.held.below[-1]) == (path[-1], found)
    for name in (b"far", b"link", b"round", b"private", b"cover", b"loop", b"gone"):
        assert error_of(opened.sources, [(b"s", name)], all_seen, True) == "not-shared"
    assert error_of(opened.sources, [(b"s", b"folder", b"er")], all_seen, True) == "not-shared", "hidden by its inode"
    assert error_of(opened.sources, [(b"s", b"link", b"passwd")], all_seen, True) == "not-shared"
    opened.done()


def test_so_many_links_and_no_more(tree: Path) -> None:
    """A chain as long as the kernel would follow, and one link longer."""
    opened = shares(tree)
    (tree / "0").symlink_to("sub/file")
    for number in range(1, limits.LINKS_FOLLOWED + 1):
        (tree / str(number)).symlink_to(str(number - 1))
    last = str(limits.LINKS_FOLLOWED - 1).encode()
    (source,) = opened.sources([(b"s", last)], all_seen, True)
    assert source.held is not None
    assert source.held.below == (b"sub", b"file")
    assert error_of(opened.sources, [(b"s", str(limits.LINKS_FOLLOWED).encode())], all_seen, True) == "not-shared"
    opened.done()


def test_a_followed_place_that_becomes_a_link_leads_nowhere(tree: Path, tmp_path: Path) -> None:
    """What was found is opened without links: between the look and the opening nobody leads us out."""
    linked(tree)
    opened = shares(tree)
    items = Walk(opened.sources([(b"s",)], all_seen, True), Selection.of((), "follow")).batch(100)
    (file,) = [item for item in items if isinstance(item, SourceFile) and item.path[-1] == b"chain"]
    (tree / "sub").rename(tree / "moved")
    (tmp_path / "file").write_bytes(b"content")
    (tree / "sub").symlink_to("..")
    assert error_of(read_whole, file) in ("source-changed", "source-vanished")
    opened.done()


def test_what_is_shown(tree: Path) -> None:
    """In order, a folder before what is in it; links as links; nothing that is reserved."""
    opened = shares(tree)
    shown = Shown(opened.find((b"s",), all_seen), deep=True)
    items = shown.frame()
    assert shown.frame() == []
    shown.close()
    assert [(item.kind, b"/".join(item.path)) for item in items] == [
        (ItemKind.LINK, b"link"),
        (ItemKind.FOLDER, b"sub"),
        (ItemKind.FOLDER, b"sub/deep"),
        (ItemKind.FILE, b"sub/deep/er"),
        (ItemKind.FILE, b"sub/file"),
        (ItemKind.LINK, b"sub/out"),
    ]
    one = Shown(opened.find((b"s", b"sub", b"file"), all_seen), deep=True)
    assert [(item.path, item.size) for item in one.frame()] == [([], 7)]
    one.close()
    before = len(os.listdir("/proc/self/fd"))
    early = Shown(opened.find((b"s",), all_seen), deep=True)
    early.frame()
    early.close()
    assert len(os.listdir("/proc/self/fd")) == before
    opened.done()


def test_frames_are_bounded(tmp_path: Path) -> None:
    """However many and however long the names are."""
    for number in range(1500):
        (tmp_path / f"{number:04}{'n' * 240}").touch()
    opened = shares(tmp_path)
    shown = Shown(opened.find((b"s",), all_seen), deep=False)
    sizes = []
    while items := shown.frame():
        sizes.append(sum(len(item.path[0]) for item in items))
        assert len(items) <= 512
    shown.close()
    opened.done()
    assert sum(sizes) == 1500 * 244
    assert max(sizes) < 64 * 1024


def test_shares_stay_open_while_they_are_used(tree: Path) -> None:
    """A new configuration does not cut off who is reading."""
    before = len(os.listdir("/proc/self/fd"))
    opened = shares(tree)
    opened.use()
    opened.done()
    assert opened.find((b"s", b"sub"), all_seen)
    opened.done()
    assert len(os.listdir("/proc/self/fd")) == before
