"""Whole jobs through the storage seam: what arrives, under which name, and what is answered."""

from __future__ import annotations

import ast
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.inboxes import JOB, MTIME, PEER, Sending, content, digest_of_content, snapshot
from support.other_user import as_nobody

from ftx.core.blocks import block_digest
from ftx.disk.inbox import Inbox
from ftx.disk.names import NameRules
from ftx.disk.root import Means
from ftx.disk.store import Failed, FileEntry, FolderEntry, Have, Made, Refuse, Skip, Stored, Want, Whole
from ftx.errors import FtxError, LocalProtocolError
from ftx.limits import BLOCK, RENAME_TRIES

MEANS = {
    "all": Means(),
    "walk": Means(openat2=False, empty_path=False),
    "staged": Means(tmpfile=False),
    "bare": Means(openat2=False, tmpfile=False, noreplace=False, syncfs=False, fallocate=False),
}
TREE: dict[str, bytes | None] = {
    "top.txt": b"top",
    "album": None,
    "album/empty": b"",
    "album/one": b"1",
    "album/inner": None,
    "album/inner/big.bin": content(3 * BLOCK + 5),
    "album/inner/hole": bytes(2 * BLOCK),
    "album/inner/exact": content(BLOCK),
    "lonely": None,
}


@pytest.fixture(params=MEANS)
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inbox]:
    """An inbox in `tmp_path/inbox`, with all that the kernel offers and with less."""
    held = Inbox.open(str(tmp_path / "inbox"), means=MEANS[request.param])
    yield held
    held.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Inbox]:
    """An ordinary inbox in `tmp_path/inbox`."""
    held = Inbox.open(str(tmp_path / "inbox"))
    yield held
    held.close()


def staged(tmp_path: Path) -> list[str]:
    """What lies in the staging folder."""
    return sorted(os.listdir(tmp_path / "inbox" / ".ftx" / "partial"))


# -- opening ---------------------------------------------------------------------------------------------------


@pytest.mark.case("G122")
def test_second_open_is_refused(plain: Inbox, tmp_path: Path) -> None:
    """An inbox has one daemon, and is free again after it."""
    with pytest.raises(FtxError) as caught:
        Inbox.open(str(tmp_path / "inbox"))
    assert caught.value.name == "already-running"
    plain.close()
    Inbox.open(str(tmp_path / "inbox")).close()


@pytest.mark.case("D80")
def test_unusable_inboxes(tmp_path: Path) -> None:
    """A file, a missing parent, a folder open to everybody, damaged records: one sentence each."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    damaged = tmp_path / "damaged" / ".ftx"
    damaged.mkdir(parents=True)
    (damaged / "records.db").write_bytes(b"nonsense" * 1000)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / ".ftx").symlink_to(tmp_path)
    for name in ("file", "no/where", "open", "damaged", "linked"):
        with pytest.raises(FtxError) as caught:
            Inbox.open(str(tmp_path / name))
        assert caught.value.name == "inbox-unusable", name
        assert str(tmp_path / name) in caught.value.message
    (tmp_path / "open").chmod(0o1777)
    Inbox.open(str(tmp_path / "open")).close()


@pytest.mark.case("D80")
def test_inbox_of_somebody_else(short_tmp: Path) -> None:
    """Another user's inbox is refused, and so is one that cannot be written."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    theirs, ours = short_tmp / "theirs", short_tmp / "ours"
    for folder in (short_tmp, theirs, ours):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    os.chown(theirs, 12345, 12345)

    def attempt() -> str:
        said = []
        for folder in (theirs, ours):
            try:
                Inbox.open(str(folder)).close()
            except FtxError as error:
                said.append(f"{error.name}: {error.message}")
        return "\n".join(said)

    said = as_nobody(attempt).splitlines()
    assert [line.split(":")[0] for line in said] == ["inbox-unusable"] * 2
    assert "another user" in said[0]
    assert "not writable" in said[1]


# -- whole trees -----------------------------------------------------------------------------------------------


def test_tree_arrives_exactly(inbox: Inbox, tmp_path: Path) -> None:
    """Content, permissions, times and digests; nothing is left in the staging folder."""
    sending = Sending(inbox, TREE, mode=0o100755 | stat.S_ISUID)
    results = sending.run()
    assert results == {name: f"stored {name}" for name in TREE}
    assert snapshot(tmp_path / "inbox") == TREE
    for name, data in TREE.items():
        status = (tmp_path / "inbox" / name).stat()
        assert status.st_mtime_ns == MTIME
        assert status.st_mode & 0o7777 == 0o755
        outcome = sending.outcomes[name]
        assert isinstance(outcome, Stored)
        assert outcome.digest == (b"" if data is None else digest_of_content(data))
    assert staged(tmp_path) == []
    assert (tmp_path / "inbox" / "album/inner/hole").stat().st_blocks * 512 < BLOCK


def test_sent_again_everything_is_there(inbox: Inbox, tmp_path: Path) -> None:
    """In the same process, and in the next; for its own sender only."""
    Sending(inbox, TREE).run()
    before = snapshot(tmp_path / "inbox")
    expected = {name: f"stored {name}" if data is None else f"have {name}" for name, data in TREE.items()}
    assert Sending(inbox, TREE, job=b"2" * 16).run() == expected
    inbox.close()
    again = Inbox.open(str(tmp_path / "inbox"))
    assert Sending(again, TREE, job=b"3" * 16).run() == expected
    answers = Sending(again, TREE, peer=b"o" * 32, conflict="skip").offer()
    assert not any(isinstance(answer, Have) for answer in answers.values())
    again.close()
    assert snapshot(tmp_path / "inbox") == before


@pytest.mark.case("C61")
def test_permission_bits(plain: Inbox, tmp_path: Path) -> None:
    """The sender's bits less the umask, whatever the process umask is; never special bits."""
    old = os.umask(0o077)
    try:
        for number, mode in enumerate((0o777, 0o7777, 0o666, 0o600, 0o444, 0)):
            tree: dict[str, bytes | None] = {
                f"{number}": b"x",
                f"{number}d": None,
                f"{number}d/big": content(BLOCK + 1),
            }
            sending = Sending(plain, tree, mode=mode)
            sending.offer()
            sending.send_small()
            sending.send_large()
            sending.finish_folders(mode)
            sending.store.close()
            for name in (f"{number}", f"{number}d/big"):
                assert (tmp_path / "inbox" / name).stat().st_mode & 0o7777 == mode & 0o755
            # a folder that cannot be entered could never be sent into again
            assert (tmp_path / "inbox" / f"{number}d").stat().st_mode & 0o7777 == mode & 0o755 | 0o500
    finally:
        os.umask(old)


@pytest.mark.case("C62")
@pytest.mark.parametrize("mtime", [-(2**63), -1, 0, 2**63 - 1])
def test_odd_times(plain: Inbox, tmp_path: Path, mtime: int) -> None:
    """The ends of the range are stored as near as the file system can, and recognised again."""
    tree: dict[str, bytes | None] = {"a": b"a", "b": content(BLOCK + 1), "d": None}
    assert Sending(plain, tree, mtime_ns=mtime).run() == {name: f"stored {name}" for name in tree}
    assert Sending(plain, tree, mtime_ns=mtime).run() == {"a": "have a", "b": "have b", "d": "stored d"}


def test_into_a_folder(inbox: Inbox, tmp_path: Path) -> None:
    """`into` is made when the first entry comes, is part of the name, and of what the file is known as."""
    job = inbox.begin(PEER, JOB, (b"in", b"to"), "rename")
    job.close()
    assert snapshot(tmp_path / "inbox") == {}
    tree: dict[str, bytes | None] = {"a": b"a"}
    assert Sending(inbox, tree, into=(b"in", b"to")).run() == {"a": "stored in/to/a"}
    assert Sending(inbox, tree, into=(b"in", b"to")).run() == {"a": "have in/to/a"}
    assert Sending(inbox, tree).run() == {"a": "stored a"}
    for into, error in (((b"a",), "exists"), ((b"..",), "bad-name"), ((b".ftx",), "bad-name")):
        with pytest.raises(FtxError) as caught:
            inbox.begin(PEER, JOB, into, "rename")
        assert caught.value.name == error
    with pytest.raises(FtxError) as caught:
        inbox.begin(PEER, JOB, (), "merge")
    assert caught.value.name == "not-supported"


def test_ordinary_user(short_tmp: Path) -> None:
    """Without root's powers: everything arrives, is found again, and a partial about to be read-only is resumed."""
    short_tmp.chmod(0o777)
    path = short_tmp / "inbox"
    tree: dict[str, bytes | None] = {"d": None, "d/a": b"a", "big": content(2 * BLOCK + 1), "b": b"b"}

    def send() -> str:
        inbox = Inbox.open(str(path))
        first = Sending(inbox, tree, mode=0o444)
        first.offer()
        for name, want in first.wanted(large=True):
            first.send_blocks(name, want, sync_every=1)
        first.store.close()
        (partial,) = (name for name in (path / ".ftx" / "partial").iterdir() if not name.suffix)
        partial.chmod(0o444)  # as by a kill just before it was published
        second = Sending(inbox, tree, mode=0o444)
        results = second.run()
        results["blocks"] = str(second.sent_blocks)
        results["again"] = " ".join(Sending(inbox, tree, mode=0o444).run().values())
        inbox.close()
        return repr(results)

    expected = {name: f"stored {name}" for name in sorted(tree)}
    found = ast.literal_eval(as_nobody(send))
    assert found.pop("blocks") == "0"
    assert found.pop("again") == "have b have big stored d have d/a"
    assert found == expected
    assert snapshot(path) == tree


# -- conflicts -------------------------------------------------------------------------------------------------


def test_rename_keeps_what_is_there(inbox: Inbox, tmp_path: Path) -> None:
    """A taken name is left alone; the new file gets a number, and keeps it when it is sent again."""
    folder = tmp_path / "inbox"
    (folder / "a.txt").write_bytes(b"mine")
    (folder / "a (1).txt").write_bytes(b"mine too")
    (folder / "big").symlink_to("nowhere")
    tree: dict[str, bytes | None] = {"a.txt": b"theirs", "big": content(2 * BLOCK)}
    assert Sending(inbox, tree).run() == {"a.txt": "stored a (2).txt", "big": "stored big (1)"}
    assert Sending(inbox, tree).run() == {"a.txt": "have a (2).txt", "big": "have big (1)"}
    assert (folder / "a.txt").read_bytes() == b"mine"
    assert os.readlink(folder / "big") == "nowhere"
    newer: dict[str, bytes | None] = {"a.txt": b"theirs, newer"}
    assert Sending(inbox, newer).run() == {"a.txt": "stored a (3).txt"}
    assert Sending(inbox, newer).run() == {"a.txt": "have a (3).txt"}


def test_every_version_is_known(inbox: Inbox, tmp_path: Path) -> None:
    """A newer version does not make ftx forget the older one: sent in turns, each is stored once."""
    versions = [(b"one", MTIME), (b"two!", MTIME + 1), (b"one", MTIME + 2)]
    stored = ["a", "a (1)", "a (2)"]
    for word in ("stored", "have", "have"):
        for (data, mtime), name in zip(versions, stored, strict=True):
            assert Sending(inbox, {"a": data}, mtime_ns=mtime).run() == {"a": f"{word} {name}"}
    assert len(snapshot(tmp_path / "inbox")) == 3


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("data", [b"one", content(2 * BLOCK)])
def test_a_failed_publish_forgets_no_older_file(inbox: Inbox, tmp_path: Path, data: bytes, same: bool) -> None:
    """Of another version, or of the same, that was away for a moment: it is known when it is back."""
    path, away = tmp_path / "inbox" / "a", tmp_path / "away"
    assert Sending(inbox, {"a": data}).run() == {"a": "stored a"}
    path.rename(away)
    failing = Sending(inbox, {"a": data if same else data + b"!"}, conflict="fail")
    failing.offer()
    away.rename(path)
    assert failing.complete() == {"a": "exists"}
    assert Sending(inbox, {"a": data}).run() == {"a": "have a"}
    assert list(snapshot(tmp_path / "inbox")) == ["a"]


@pytest.mark.case("D76")
@pytest.mark.parametrize("conflict", ["fail", "skip", "rename", "backup", "overwrite"])
def test_policies(inbox: Inbox, tmp_path: Path, conflict: str) -> None:
    """What a taken name leads to; folders merge; a file against a folder is always `exists`."""
    folder = tmp_path / "inbox"
    (folder / "file").write_bytes(b"mine")
    (folder / "folder").mkdir(mode=0o711)
    (folder / "both").mkdir()
    tree: dict[str, bytes | None] = {"file": b"x", "folder": None, "folder/new": b"n", "both": b"y", "file2": b"2"}
    expected = {"fail": "exists", "skip": "skip", "rename": "stored file (1)"}.get(conflict, "stored file")
    assert Sending(inbox, tree, conflict=conflict).run() == {
        "file": expected,
        "folder": "stored folder",
        "folder/new": "stored folder/new",
        "both": "exists",
        "file2": "stored file2",
    }
    assert (folder / "file").read_bytes() == (b"x" if conflict in ("backup", "overwrite") else b"mine")
    assert (folder / "file.~1~").exists() == (conflict == "backup")
    assert list((folder / "both").iterdir()) == []


SIZES = {"small": (b"one", b"the second"), "large": (content(2 * BLOCK), content(2 * BLOCK + 1, 5))}


@pytest.mark.parametrize("size", SIZES)
def test_backup_moves_the_older_one_aside(inbox: Inbox, tmp_path: Path, size: str) -> None:
    """With its permissions, time and inode; it is nobody's any more, so sent again it comes back to its place."""
    folder = tmp_path / "inbox"
    older, newer = SIZES[size]
    (folder / "a").write_bytes(b"mine")
    (folder / "a").chmod(0o640)
    (folder / "a.~2~").write_bytes(b"in the way")
    mine = (folder / "a").stat()
    assert Sending(inbox, {"a": older}, conflict="backup").run() == {"a": "stored a"}
    aside = (folder / "a.~1~").stat()
    assert (aside.st_ino, aside.st_mode, aside.st_mtime_ns) == (mine.st_ino, mine.st_mode, mine.st_mtime_ns)
    assert Sending(inbox, {"a": older}, conflict="backup").run() == {"a": "have a"}
    assert Sending(inbox, {"a": newer}, mtime_ns=MTIME + 1, conflict="backup").run() == {"a": "stored a"}
    found = {"a": newer, "a.~1~": b"mine", "a.~2~": b"in the way", "a.~3~": older}
    assert snapshot(folder) == found
    assert Sending(inbox, {"a": older}, conflict="backup").run() == {"a": "stored a"}
    assert snapshot(folder) == {**found, "a": older, "a.~4~": newer}
    assert staged(tmp_path) == []


def test_backup_of_a_long_name(inbox: Inbox, tmp_path: Path) -> None:
    """The tail finds its place: a name of 255 bytes is cut, between two characters."""
    name = "ö" * 127 + "x"
    (tmp_path / "inbox" / name).write_bytes(b"mine")
    assert Sending(inbox, {name: b"new"}, conflict="backup").run() == {name: f"stored {name}"}
    assert snapshot(tmp_path / "inbox") == {name: b"new", "ö" * 125 + ".~1~": b"mine"}


def test_backups_run_out(plain: Inbox, tmp_path: Path) -> None:
    """After 999 of them the name counts as taken, and what has it stays."""
    folder = tmp_path / "inbox"
    (folder / "a").write_bytes(b"mine")
    for number in range(1, RENAME_TRIES + 1):
        (folder / f"a.~{number}~").write_bytes(b"")
    assert Sending(plain, {"a": b"x", "b": b"y"}, conflict="backup").run() == {"a": "exists", "b": "stored b"}
    assert (folder / "a").read_bytes() == b"mine"


@pytest.mark.parametrize("size", SIZES)
def test_overwrite_replaces_in_one_step(inbox: Inbox, tmp_path: Path, size: str) -> None:
    """There is a whole file of that name at every moment; other names of the older one keep it."""
    folder = tmp_path / "inbox"
    older, newer = SIZES[size]
    assert Sending(inbox, {"a": older}, conflict="overwrite").run() == {"a": "stored a"}
    os.link(folder / "a", tmp_path / "kept")
    seen: set[bytes] = set()
    missing: list[OSError] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            try:
                seen.add((folder / "a").read_bytes())
            except OSError as error:
                missing.append(error)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for turn, data in enumerate((newer, older, newer)):
            sending = Sending(inbox, {"a": data}, mtime_ns=MTIME + turn + 1, conflict="overwrite")
            assert sending.run() == {"a": "stored a"}
    finally:
        over.set()
        watcher.join()
    assert missing == []
    assert seen <= {older, newer}
    assert snapshot(folder) == {"a": newer}
    assert (tmp_path / "kept").read_bytes() == older
    assert staged(tmp_path) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("conflict", ["backup", "overwrite"])
@pytest.mark.parametrize("late", [False, True])
def test_only_regular_files_make_room(
    inbox: Inbox, tmp_path: Path, conflict: str, late: bool, size: str
) -> None:
    """Folders, links and pipes stay, found at the look-up or (`late`) when the content is there."""
    folder = tmp_path / "inbox"
    (tmp_path / "outside").write_bytes(b"mine")
    data = SIZES[size][0]
    sending = Sending(inbox, {name: data for name in ("folder", "link", "pipe")}, conflict=conflict)
    if late:
        sending.offer()
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe")
    results = sending.complete() if late else sending.run()
    assert results == dict.fromkeys(("folder", "link", "pipe"), "exists")
    assert sorted(os.listdir(folder)) == [".ftx", "folder", "link", "pipe"]
    assert (folder / "folder").is_dir()
    assert (folder / "link").is_symlink()
    assert (folder / "pipe").is_fifo()
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert staged(tmp_path) == []


def test_folder_that_was_there_keeps_its_permissions(inbox: Inbox, tmp_path: Path) -> None:
    """Only folders that this peer's transfers made get the sender's permissions and times."""
    folder = tmp_path / "inbox"
    (folder / "mine").mkdir(mode=0o711)
    sending = Sending(inbox, {"mine": None, "theirs": None})
    sending.offer()
    sending.finish_folders(0o550)
    sending.store.close()
    assert (folder / "mine").stat().st_mode & 0o7777 == 0o711
    assert (folder / "theirs").stat().st_mode & 0o7777 == 0o550
    # and what they made as read-only can be sent into again
    assert Sending(inbox, {"theirs": None, "theirs/new": b"n"}).run()["theirs/new"] == "stored theirs/new"
    assert (folder / "theirs").stat().st_mode & 0o7777 == 0o755


@pytest.mark.case("D76")
def test_folder_against_file_and_link(inbox: Inbox, tmp_path: Path) -> None:
    """A folder entry over a file is `exists`, over a link `bad-name`; what is in it fares likewise."""
    folder = tmp_path / "inbox"
    (tmp_path / "outside").mkdir()
    (folder / "file").write_bytes(b"mine")
    (folder / "link").symlink_to(tmp_path / "outside")
    tree: dict[str, bytes | None] = {"file": None, "file/a": b"a", "link": None, "link/a": b"a"}
    assert Sending(inbox, tree).run() == {
        "file": "exists",
        "file/a": "exists",
        "link": "bad-name",
        "link/a": "bad-name",
    }
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.case("D77", "D82")
@pytest.mark.parametrize("conflict", ["fail", "skip", "rename", "backup", "overwrite"])
def test_name_taken_between_look_and_publish(inbox: Inbox, tmp_path: Path, conflict: str) -> None:
    """Another program was faster: the next free name, or `exists`; its file is never touched."""
    folder = tmp_path / "inbox"
    tree: dict[str, bytes | None] = {"a": b"theirs", "b": content(BLOCK + 1), "c": b"c"}
    sending = Sending(inbox, tree, conflict=conflict)
    sending.offer()
    for name in ("a", "b", "a (1)"):
        (folder / name).write_bytes(b"mine")
    sending.send_small()
    sending.send_large()
    sending.store.close()
    renamed = ["stored a (2)", "stored b (1)", "stored c"]
    expected = renamed if conflict == "rename" else ["exists", "exists", "stored c"]
    if conflict in ("backup", "overwrite"):
        assert [sending.result(name) for name in tree] == ["stored a", "stored b", "stored c"]
        assert (folder / "a").read_bytes() == b"theirs"
        assert (folder / "b").read_bytes() == tree["b"]
        asides = [(folder / f"{name}.~1~").read_bytes() for name in "ab"] if conflict == "backup" else []
        assert asides == [b"mine"] * len(asides)
        return
    assert [sending.result(name) for name in tree] == expected
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes() == b"mine"
    assert staged(tmp_path) == []
    # the failed attempt's record does not make this peer the owner of somebody else's file
    (folder / "a").write_bytes(b"theirs")
    os.utime(folder / "a", ns=(MTIME, MTIME))
    if conflict != "rename":
        assert Sending(inbox, {"a": b"theirs"}, conflict=conflict).run() == {
            "a": "exists" if conflict == "fail" else "skip"
        }


@pytest.mark.parametrize("conflict", ["fail", "skip", "rename", "backup", "overwrite"])
def test_name_taken_in_a_folder_that_the_job_made(inbox: Inbox, tmp_path: Path, conflict: str) -> None:
    """Nothing was in it, so its names are not looked at; what somebody has put there meanwhile is safe all the same."""
    folder = tmp_path / "inbox" / "d"
    job = inbox.begin(PEER, JOB, (), conflict)
    assert job.look_up([FolderEntry(0, (b"d",))]) == [Made(0)]
    (folder / "a").write_bytes(b"mine")
    answer = job.look_up([FileEntry(1, (b"d", b"a"), 6, MTIME, 0o644)])[0]
    assert isinstance(answer, Skip if conflict == "skip" else Want)
    if isinstance(answer, Want):
        (outcome,) = job.store_whole([Whole(1, [b"the", b"irs"], block_digest([b"theirs"]))])
        name = b"a (1)" if conflict == "rename" else b"a"
        stored = Stored(1, (b"d", name), digest_of_content(b"theirs"))
        assert outcome == (Failed(1, "exists") if conflict == "fail" else stored)
    job.finish_folder(0, 0o755, MTIME)
    job.close()
    kept = {"backup": "a.~1~", "overwrite": None}.get(conflict, "a")
    assert kept is None or (folder / kept).read_bytes() == b"mine"
    assert sorted(path.read_bytes() for path in folder.iterdir()) == {
        "fail": [b"mine"], "skip": [b"mine"], "overwrite": [b"theirs"]
    }.get(conflict, [b"mine", b"theirs"])


def test_numbers_run_out(plain: Inbox, tmp_path: Path) -> None:
    """After 999 tries the name counts as taken."""
    for number in range(RENAME_TRIES + 1):
        (tmp_path / "inbox" / (f"a ({number})" if number else "a")).write_bytes(b"")
    assert Sending(plain, {"a": b"x", "b": b"y"}).run() == {"a": "exists", "b": "stored b"}


def test_a_name_in_the_batch_that_a_rename_would_choose(inbox: Inbox, tmp_path: Path) -> None:
    """`a` is renamed to `a (1)` while `a (1)` itself is in the same batch: both arrive."""
    (tmp_path / "inbox" / "a").write_bytes(b"mine")
    tree: dict[str, bytes | None] = {"a": b"first", "a (1)": b"second"}
    results = Sending(inbox, tree).run()
    assert len(set(results.values())) == 2
    found = snapshot(tmp_path / "inbox")
    assert sorted(data for data in found.values() if data is not None) == [b"first", b"mine", b"second"]


# -- records ---------------------------------------------------------------------------------------------------


@pytest.mark.case("D84")
def test_changed_or_deleted_files_are_not_ours_any_more(inbox: Inbox, tmp_path: Path) -> None:
    """A record whose file was edited, replaced or removed counts as absent."""
    folder = tmp_path / "inbox"
    tree: dict[str, bytes | None] = {name: b"content" for name in ("edited", "gone", "sneaky", "replaced", "touched")}
    Sending(inbox, tree).run()
    (folder / "edited").write_bytes(b"changed")
    (folder / "gone").unlink()
    (folder / "sneaky").write_bytes(b"CONTENT")
    os.utime(folder / "sneaky", ns=(MTIME, MTIME))
    (folder / "other").write_bytes(b"CoNtEnT")
    os.utime(folder / "other", ns=(MTIME, MTIME))
    (folder / "other").rename(folder / "replaced")
    (folder / "touched").touch()
    assert Sending(inbox, tree).run() == {
        "edited": "stored edited (1)",
        "gone": "stored gone",
        "sneaky": "stored sneaky (1)",
        "replaced": "stored replaced (1)",
        "touched": "stored touched (1)",
    }


def test_same_content_with_other_permissions_or_inode_is_still_ours(inbox: Inbox, tmp_path: Path) -> None:
    """chmod, a hard link, or an inbox restored from a copy: the content decides, and is hashed once."""
    folder = tmp_path / "inbox"
    tree: dict[str, bytes | None] = {"chmod": b"a", "link": content(BLOCK + 3), "copy": content(2 * BLOCK)}
    Sending(inbox, tree).run()
    (folder / "chmod").chmod(0o600)
    os.link(folder / "link", tmp_path / "backup")
    (folder / "copy").rename(tmp_path / "old")
    (folder / "copy").write_bytes(tree["copy"] or b"")
    os.utime(folder / "copy", ns=(MTIME, MTIME))
    expected = {name: f"have {name}" for name in tree}
    assert Sending(inbox, tree).run() == expected
    assert Sending(inbox, tree).run() == expected


def test_receipts(plain: Inbox, tmp_path: Path) -> None:
    """A receipt is kept for its own peer and job, over a restart."""
    job = plain.begin(PEER, JOB, (), "rename")
    job.save_receipt(b"signed")
    job.close()
    plain.close()
    again = Inbox.open(str(tmp_path / "inbox"))
    assert again.receipt(PEER, JOB) == b"signed"
    assert again.receipt(b"o" * 32, JOB) is None
    again.close()


# -- refusals --------------------------------------------------------------------------------------------------


def test_bad_entries_are_refused_one_by_one(inbox: Inbox, tmp_path: Path) -> None:
    """A hostile name costs its own entry, the others are answered."""
    job = inbox.begin(PEER, JOB, (), "rename")
    names = [(b"..", b"x"), (b".bashrc",), (b".ftx", b"records.db"), (b"d", b".FTX"), (b"a\x1b",), (b"a/b",), ()]
    entries: list[FileEntry | FolderEntry] = [FileEntry(n, path, 1, 0, 0o644) for n, path in enumerate(names)]
    entries += [FolderEntry(20, (b"..",)), FolderEntry(21, (b"fine",)), FileEntry(22, (b"big",), 2**63, 0, 0o644)]
    answers = job.look_up(entries)
    assert answers[: len(names)] == [Refuse(n, "bad-name") for n in range(len(names))]
    assert answers[len(names) :] == [Refuse(20, "bad-name"), Made(21), Refuse(22, "bad-message")]
    job.close()
    assert snapshot(tmp_path / "inbox") == {"fine": None}


@pytest.mark.case("C63")
def test_operator_may_accept_dot_files(tmp_path: Path) -> None:
    """The name rules are the operator's."""
    inbox = Inbox.open(str(tmp_path / "inbox"), rules=NameRules(dot_at_top=True))
    assert Sending(inbox, {".bashrc": b"x"}).run() == {".bashrc": "stored .bashrc"}
    inbox.close()


def test_missing_parent_is_refused(plain: Inbox) -> None:
    """A file below a folder that was never offered fails alone, and the operator hears of it."""
    job = plain.begin(PEER, JOB, (), "rename")
    assert job.look_up([FileEntry(0, (b"no", b"file"), 1, 0, 0o644)]) == [Refuse(0, "storage-failed")]
    job.close()


@pytest.mark.case("C66")
def test_wrong_content_is_not_stored(inbox: Inbox, tmp_path: Path) -> None:
    """A digest or a length that does not fit fails the file; it may be sent again."""
    sending = Sending(inbox, {"a": b"right", "b": content(BLOCK + 1)})
    sending.offer()
    right = block_digest([b"right"])
    for chunks, digest in (([b"wrong"], right), ([b"right!"], block_digest([b"right!"])), ([b"righ"], right)):
        outcome = sending.store.store_whole([Whole(0, chunks, digest)])[0]
        assert getattr(outcome, "error", "") == "digest-mismatch"
    assert snapshot(tmp_path / "inbox") == {}
    sending.send_small()
    assert sending.result("a") == "stored a"
    for path, want in sending.wanted(large=True):
        sending.send_blocks(path, want)
        assert getattr(sending.store.publish(want.number, b"?" * 32), "error", "") == "digest-mismatch"
    sending.store.close()
    assert snapshot(tmp_path / "inbox") == {"a": b"right"}
    assert staged(tmp_path) == []


def test_unknown_numbers_are_our_own_mistake(plain: Inbox) -> None:
    """What was not wanted cannot be stored."""
    job = plain.begin(PEER, JOB, (), "rename")
    for call in (
        lambda: job.store_whole([Whole(1, [b""], block_digest([]))]),
        lambda: job.write_block(1, 0, [b""], b""),
        lambda: job.publish(1, b""),
        lambda: job.sync(1),
        lambda: job.finish_folder(1, 0o755, 0),
    ):
        with pytest.raises(LocalProtocolError):
            call()
    job.discard(1, keep=False)
    job.close()


def test_small_files_answer_want_without_blocks(plain: Inbox) -> None:
    """`held` is None for files of one block, and for large ones of which nothing is there."""
    answers = Sending(plain, {"a": b"", "b": content(BLOCK), "c": content(BLOCK + 1), "d": None}).offer()
    assert [answers[name] for name in "abc"] == [Want(0, None), Want(1, None), Want(2, None)]
    assert answers["d"] == Made(3)
    assert Sending(plain, {"a": b""}).offer() == {"a": Refuse(0, "busy")}


def test_skip_answer(plain: Inbox, tmp_path: Path) -> None:
    """`skip` is an answer of its own."""
    (tmp_path / "inbox" / "a").write_bytes(b"mine")
    assert Sending(plain, {"a": b"x"}, conflict="skip").offer() == {"a": Skip(0)}
