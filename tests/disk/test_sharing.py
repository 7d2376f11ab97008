"""Shares: what they are called, what is found in them, and what never is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftx.disk.shares import Shares, ShareSetting, check_share, overlapping, share_tables, shares_of
from ftx.disk.shown import Shown
from ftx.disk.source import OpenSource, SourceFile, Walk, count, read_whole
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
