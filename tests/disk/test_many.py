"""Many files with one call: what it does is what is done one by one, and where it stops nothing is left behind."""

from __future__ import annotations

import os
import random
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.counted import named_calls
from support.descriptors import descriptors
from support.inboxes import MTIME, PEER, Sending, content, snapshot

from ftx.core.blocks import block_digest
from ftx.disk import many
from ftx.disk.inbox import Inbox
from ftx.disk.root import Means
from ftx.disk.store import Stored, Whole
from ftx.disk.tree import Folders, Tree
from ftx.errors import FtxError
from ftx.limits import FILES_TOGETHER, FOLDERS_TOGETHER

pytestmark = pytest.mark.skipif(not many.available(), reason="many.c was not built: no C compiler")

FAR = [0, 1, -1, 999_999_999, -999_999_999, -1_000_000_000, -1_000_000_001, MTIME, 2**31 * 10**9 - 1]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """With another umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def close(made: list[many.Unnamed]) -> None:
    """Let them go."""
    for one in made:
        os.close(one.fd)


# -- the calls -----------------------------------------------------------------------------------------------


def test_files_are_made_as_one_by_one(folder: int, tmp_path: Path) -> None:
    """Content, permission bits against a umask, and times as utimensat(2) keeps them for who asks for one."""
    sizes = [0, 1, 4096, 1 << 20]
    files = [
        (folder, (0o777, 0o600, 0o444, 0o000)[at % 4], time, content(sizes[at % 4], at)) for at, time in enumerate(FAR)
    ]
    with umask(0o077):
        made = many.write_unnamed(files)
    assert len(made) == len(files)
    for (_, mode, time, data), one in zip(files, made, strict=True):
        status = os.fstat(one.fd)
        assert (one.inode, one.disk_ns, one.mode) == (status.st_ino, status.st_mtime_ns, status.st_mode)
        assert stat.S_IMODE(status.st_mode) == mode
        assert status.st_nlink == 0
        assert os.pread(one.fd, 2 << 20, 0) == data
        other = tmp_path / "other"
        other.touch()
        os.utime(other, ns=(time, time))
        assert other.stat().st_mtime_ns == status.st_mtime_ns
        assert not os.get_inheritable(one.fd)
    close(made)


def test_times_at_the_ends_of_what_can_be_said() -> None:
    """Each as it is kept, where the file system keeps it (that in memory does): a file is known by its time."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    ends = [-(2**63), -(2**63) + 1, -(2**63) + 10**8, -9_223_372_036 * 10**9, 2**63 - 1, 2**63 - 2]
    with tempfile.TemporaryDirectory(dir=base) as path:
        fd = os.open(path, os.O_RDONLY)
        made = many.write_unnamed([(fd, 0o644, time, b"") for time in ends])
        assert [one.disk_ns for one in made] == [os.fstat(one.fd).st_mtime_ns for one in made]
        close(made)
        os.close(fd)


def test_names_are_given_as_one_by_one(folder: int, tmp_path: Path) -> None:
    """Each file has the name that was meant for it, whatever bytes are in it, and the time of its change is known."""
    names = [b"a", b" ", b"\xff" * 255, b"a\nb", "ü".encode()]
    made = many.write_unnamed([(folder, 0o644, MTIME, name) for name in names])
    linked = many.link([(one.fd, folder, name) for one, name in zip(made, names, strict=True)])
    assert [one.error for one in linked] == [0] * len(names)
    for name, one in zip(names, linked, strict=True):
        path = os.path.join(os.fsencode(tmp_path), name)
        assert Path(os.fsdecode(path)).read_bytes() == name
        assert os.stat(path).st_ctime_ns == one.ctime_ns
    close(made)


@pytest.mark.parametrize("at", [0, 1, 4])
def test_it_stops_at_the_first_that_fails(folder: int, tmp_path: Path, at: int) -> None:
    """A folder that is none: those before it are made, it and those behind it are not, and no descriptor is lost."""
    before = descriptors()
    with open(os.devnull) as nowhere:
        folders = [folder] * 5
        folders[at] = nowhere.fileno()
        made = many.write_unnamed([(one, 0o644, MTIME, b"some") for one in folders])
    assert len(made) == at
    assert descriptors() == before + at
    close(made)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("at", [0, 1, 4])
def test_no_name_is_taken_from_anybody(folder: int, tmp_path: Path, at: int) -> None:
    """Where one is taken already it stops; what was there stays."""
    names = [b"%d" % number for number in range(5)]
    (tmp_path / str(at)).write_bytes(b"somebody's")
    made = many.write_unnamed([(folder, 0o644, MTIME, b"ours")] * 5)
    linked = many.link([(one.fd, folder, name) for one, name in zip(made, names, strict=True)])
    close(made)
    assert len(linked) == at
    assert snapshot(tmp_path) == {str(number): b"ours" for number in range(at)} | {str(at): b"somebody's"}


def test_a_lack_of_descriptors(folder: int) -> None:
    """It stops with the last that there was one for."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = os.dup(folder)
    os.close(taken)  # the next free one: those above it are free as well, or there are fewer than are asked for
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 3, limits[1]))
    try:
        made = many.write_unnamed([(folder, 0o644, MTIME, b"some")] * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    close(made)
    assert 0 < len(made) <= 3


def test_a_library_that_is_not_ours(tmp_path: Path) -> None:
    """None, a text, another library and one of another version: all as if there were none."""
    (tmp_path / "text").write_text("no library")
    assert many.opened(str(tmp_path / "none")) is None
    assert many.opened(str(tmp_path / "text")) is None
    assert many.opened("libc.so.6") is None
    compiler = shutil.which("cc")
    assert compiler is not None, "there was one when many.c was built"
    source = (Path(many.__file__).parent / "many.c").read_text()
    older = tmp_path / "older.c"
    older.write_text(source.replace("#define FTX_MANY", "#define FTX_MANY 1000 +"))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "older.so", older], check=True)
    assert many.opened(str(tmp_path / "older.so")) is None


# -- a batch ---------------------------------------------------------------------------------------------------


def opened(path: Path, *, together: bool) -> Inbox:
    """An inbox."""
    return Inbox.open(str(path), means=Means(many=together))


def odd_tree(random: random.Random) -> dict[str, bytes | None]:
    """Many small files in more folders than are kept at a time."""
    tree: dict[str, bytes | None] = {f"d{number}": None for number in range(FOLDERS_TOGETHER + 3)}
    for number in range(FILES_TOGETHER + 60):
        kinds = [content(random.randrange(9000), number), b"", bytes(8192) + b"end", content(4096, number)]
        name = f"{number}-{random.choice(['a', 'ü', 'x' * 200])}"
        tree[f"d{random.randrange(FOLDERS_TOGETHER + 3)}/{name}"] = random.choice(kinds)
    return tree


def disturbed(path: Path, tree: dict[str, bytes | None], seed: int, conflict: str, *, together: bool) -> object:
    """A job that others get in the way of, and everything that can be seen of it."""
    chance, said = random.Random(seed), []
    path.mkdir(mode=0o700)
    inbox = Inbox.open(str(path), report=said.append, means=Means(many=together))
    sending = Sending(inbox, tree, conflict=conflict, mode=chance.choice([0o644, 0o600, 0o755]))
    sending.offer()
    files = sending.wanted(large=False)
    for where, _ in chance.sample(files, 12):
        target = path / os.fsdecode(b"/".join(where))
        match chance.randrange(3):
            case 0:
                target.write_bytes(b"somebody's")
            case 1:
                target.mkdir()
            case 2:
                os.symlink("/etc/passwd", target)
    gone = path / "d1"
    shutil.rmtree(gone)
    gone.symlink_to("/")
    wholes = []
    for where, want in files:
        data = tree[os.fsdecode(b"/".join(where))] or b""
        digest = block_digest([data]) if chance.random() > 0.02 else bytes(32)
        cut = chance.randrange(len(data) + 1)
        wholes.append(Whole(want.number, [data] if cut % 3 else [data[:cut], data[cut:]], digest))
    outcomes = [
        (one.number, one.stored_as, one.digest) if isinstance(one, Stored) else (one.number, one.error)
        for one in sending.store.store_whole(wholes)
    ]
    sending.store.close()
    keys = [(b"/".join(where), len(tree[os.fsdecode(b"/".join(where))] or b""), MTIME) for where, _ in files]
    records = inbox._device.records.find(PEER, keys)
    known = [None if one is None else (one.final, one.digest, one.mode, one.ctime_ns is None) for one in records]
    promised = inbox._device.space._promised
    inbox.close()
    gone.unlink()
    modes = {str(one.relative_to(path)): one.lstat().st_mode for one in path.rglob("*") if ".ftx" not in one.parts}
    times = {name: (path / name).lstat().st_mtime_ns for name, mode in modes.items() if stat.S_ISREG(mode)}
    ours = {name: time for name, time in times.items() if time == MTIME}
    return outcomes, known, promised, snapshot(path), modes, ours, said


@pytest.mark.parametrize("conflict", ["fail", "rename", "backup", "overwrite"])
@pytest.mark.parametrize("seed", range(3))
def test_a_batch_ends_as_it_does_one_by_one(tmp_path: Path, seed: int, conflict: str) -> None:
    """Names that are taken meanwhile, a folder that became a link, wrong digests, zeros: outcomes, tree, records."""
    tree = odd_tree(random.Random(seed))
    before = descriptors()
    quick = disturbed(tmp_path / "quick", tree, seed, conflict, together=True)
    assert descriptors() == before
    assert quick == disturbed(tmp_path / "slow", tree, seed, conflict, together=False)


def test_what_is_done_together_is_not_done_by_python(tmp_path: Path) -> None:
    """A batch without anything odd in it needs none of the calls for one file."""
    one_by_one = {"pwritev", "utime", "link_open"}
    for together in (True, False):
        inbox = opened(tmp_path / f"inbox-{together}", together=together)
        sending = Sending(inbox, {f"{number}": content(4096, number) for number in range(100)})
        sending.offer()
        called = named_calls(sending.send_small)
        sending.store.close()
        inbox.close()
        assert all(isinstance(one, Stored) for one in sending.outcomes.values())
        assert [called[name] for name in one_by_one] == [0 if together else 100] * len(one_by_one)


def test_so_many_with_one_call_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made and named: before each call it is asked whether the job may still do so."""
    asked: list[int] = []
    inbox = opened(tmp_path / "inbox", together=True)
    sending = Sending(inbox, {f"{number}": b"some" for number in range(FILES_TOGETHER + 60)})
    sending.offer()
    for name in ("write_unnamed", "link"):
        call = getattr(many, name)
        monkeypatch.setattr(many, name, lambda files, call=call: (asked.append(len(files)), call(files))[1])
    sending.send_small()
    sending.store.close()
    inbox.close()
    assert asked == [FILES_TOGETHER, 60] * 2
    assert all(isinstance(one, Stored) for one in sending.outcomes.values())


@pytest.mark.parametrize("conflict", ["overwrite", "backup"])
def test_taken_names_are_not_tried_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflict: str) -> None:
    """What makes room is done by itself; what is behind it is not collected for a call that would end there."""
    asked: list[int] = []
    inbox = opened(tmp_path / "inbox", together=True)
    for number in range(0, 20, 2):
        (tmp_path / "inbox" / f"{number:02}").write_bytes(b"older")
    sending = Sending(inbox, {f"{number:02}": b"newer" for number in range(30)}, conflict=conflict)
    sending.offer()
    link = many.link
    monkeypatch.setattr(many, "link", lambda files: (asked.append(len(files)), link(files))[1])
    sending.send_small()
    sending.store.close()
    inbox.close()
    assert asked == [1] * 9 + [11]
    assert all(isinstance(one, Stored) for one in sending.outcomes.values())
    found = snapshot(tmp_path / "inbox")
    assert {name: data for name, data in found.items() if "~" not in name} == {f"{n:02}": b"newer" for n in range(30)}


def test_nothing_is_stored_for_a_job_that_was_revoked(tmp_path: Path) -> None:
    """Not one of many."""
    inbox = opened(tmp_path / "inbox", together=True)
    sending = Sending(inbox, {f"{number}": b"some" for number in range(20)})
    sending.offer()
    sending.store.revoke()
    with pytest.raises(FtxError, match=r"superseded|newer|other"):
        sending.send_small()
    sending.store.close()
    inbox.close()
    assert snapshot(tmp_path / "inbox") == {}


LIMITED = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from support.inboxes import Sending, content
from ftx.disk.inbox import Inbox
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
sending = Sending(Inbox.open(sys.argv[2]), {f"{n}": content(600_000 if n % 7 == 3 else 100, n) for n in range(40)})
sending.offer()
sending.send_small()
print(sorted((int(name), one.error) for name, one in sending.outcomes.items() if hasattr(one, "error")))
"""


def test_what_cannot_be_written_is_said_of_that_file(tmp_path: Path) -> None:
    """A limit on the size of files (setrlimit(2)) stands in for a disk: those within it are stored, the others fail."""
    tests, inbox = str(Path(__file__).parent.parent), str(tmp_path / "inbox")
    words = [sys.executable, "-c", LIMITED, tests, inbox]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert said.strip() == str([(number, "too-large") for number in range(40) if number % 7 == 3])
    assert snapshot(inbox) == {f"{number}": content(100, number) for number in range(40) if number % 7 != 3}


def test_folders_are_a_few_at_a_time(tmp_path: Path) -> None:
    """As many as there may be; those that cannot be opened are none."""
    inbox = opened(tmp_path / "inbox", together=True)
    names = [b"%d" % number for number in range(FOLDERS_TOGETHER + 1)]
    for name in names:
        os.mkdir(os.path.join(os.fsencode(tmp_path), b"inbox", name))
    tree = Tree(inbox._device.root, 0o022, inbox._device.names)
    before = descriptors()
    with Folders(tree) as folders:
        assert folders.at((b"missing",)) is None
        open_now = [folders.at((name,)) for name in names]
        assert open_now[-1] is None
        assert None not in open_now[:-1]
        assert folders.at((names[0],)) == open_now[0]
    tree.close()
    assert descriptors() == before
    inbox.close()
