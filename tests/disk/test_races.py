"""A hostile process exchanges what ftx works on at full speed; ftx never touches what lies outside (`make races`).

Each kind of operation runs RACE_SECONDS (0.1 in the ordinary run, 60 in `make races`) against another process that
swaps a folder and a link to the outside, or a file and a link, millions of times. Nothing outside may change in any way
that the file system records, and nothing may be read from there. Both outcomes must have been seen, so that it was a
race and not a wall. How often something was exchanged, and how the operations ended, is printed in the end.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic

import attrs
import pytest
from support.inboxes import MTIME, PEER, Sending, blocks_of, content
from support.races import flipping, state_of

from ftx.core.blocks import block_digest
from ftx.disk.inbox import Inbox
from ftx.disk.partial import Partial
from ftx.disk.root import Means, Root
from ftx.disk.staging import Staging, partial_key
from ftx.disk.store import Have
from ftx.disk.tree import DurableNames, Tree
from ftx.errors import FtxError
from ftx.limits import BLOCK, PARTIAL_DAYS

SECONDS = float(os.environ.get("RACE_SECONDS", "0.1"))
#: Runs go on beyond that until both outcomes and so many exchanges were seen, for PATIENCE seconds at most: a busy
#: machine is no excuse.
FEWEST = 100
PATIENCE = 20.0
NOBODY = 65534
#: The size of files that get a partial.
LARGE = BLOCK + 1


@attrs.define
class Arena:
    """An inbox, what must stay as it is, and what was seen."""

    folder: Path
    means: Means
    #: How often the hostile process exchanged something.
    flips: int = 0
    kept_out: int = 0
    let_in: int = 0
    #: How often by now.
    _count: Callable[[], int] = lambda: 0

    @property
    def inbox(self) -> Path:
        """The inbox."""
        return self.folder / "inbox"

    @property
    def outside(self) -> Path:
        """What nobody may touch."""
        return self.folder / "outside"

    def run(self, operation: Callable[[int], object]) -> int:
        """Repeat `operation` with a running number; a refusal is as good as a success, anything else is raised."""
        begun = monotonic()
        number = 0
        while monotonic() - begun < SECONDS or (
            not (self.kept_out and self.let_in and self._count() > FEWEST) and monotonic() - begun < PATIENCE
        ):
            number += 1
            try:
                inside = operation(number)
            except (OSError, FtxError):
                inside = False
            if inside:
                self.let_in += 1
            else:
                self.kept_out += 1
        return number

    @contextmanager
    def race(self, one: Path, other: Path, mode: str = "exchange", ctime: bool = True) -> Iterator[None]:
        """The hostile process works on two names; after the block nothing outside has changed (see `state_of`)."""
        before = state_of(self.outside, ctime)
        with flipping(mode, one, other, self.folder / "counter") as flips:
            begun = flips.count
            self._count = lambda: flips.count - begun
            yield
            self.flips = self._count()
        assert state_of(self.outside, ctime) == before
        assert self.flips > FEWEST
        assert self.kept_out, "the other way round was never met"
        assert self.let_in, "nothing ever went well"


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Without the rights of root, whom no permission keeps out."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def give_away(folder: Path) -> None:
    """All of `folder` to the ordinary user."""
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.lchown(path, NOBODY, NOBODY)


def descriptors() -> set[tuple[str, str]]:
    """The files and folders that this process has open, by number; pipes are those of the tools around."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            path = os.readlink(f"/proc/self/fd/{name}")
            if path.startswith("/dev/shm") or "ftx-race" in path:
                found.add((name, path))
    return found


@pytest.fixture(params=["all", "bare"])
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    """An arena in memory, with all that the kernel offers and with nothing of it."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="ftx-race-", dir=base))
    folder.chmod(0o755)
    (folder / "inbox").mkdir(mode=0o700)
    (folder / "outside" / "deep").mkdir(parents=True)
    (folder / "outside" / "victim").write_bytes(b"nobody's business")
    (folder / "outside" / "victim").chmod(0o400)
    bare = Means(openat2=False, tmpfile=False, noreplace=False, syncfs=False, fallocate=False)
    made = Arena(folder, Means() if request.param == "all" else bare)
    before = descriptors()
    yield made
    left = descriptors() - before
    assert not left, "left open"
    shutil.rmtree(folder)
    request.node.user_properties.append(("races", (made.flips, made.let_in, made.kept_out)))


@contextmanager
def swapped_folder(arena: Arena) -> Iterator[None]:
    """`flip` in the inbox is a folder, and a link to the outside."""
    (arena.inbox / "flip" / "deep").mkdir(parents=True)
    (arena.inbox / "link").symlink_to(arena.outside)
    with arena.race(arena.inbox / "flip", arena.inbox / "link"):
        yield


@pytest.mark.case("D74")
def test_opening_folders(arena: Arena) -> None:
    """The folder itself, and one below it: never that of the outside."""
    root = Root(str(arena.inbox), arena.means)
    foreign = {(arena.outside / name).stat().st_ino for name in ("", "deep")}

    def operation(number: int) -> bool:
        fd = root.open_folder((b"flip", b"deep")[: 1 + number % 2])
        assert os.fstat(fd).st_ino not in foreign
        os.close(fd)
        return True

    with swapped_folder(arena):
        arena.run(operation)
    root.close()


@pytest.mark.case("D74")
def test_making_folders(arena: Arena) -> None:
    """Made, opened and given their rights in one of the inbox, or not at all."""
    root = Root(str(arena.inbox), arena.means)

    def operation(number: int) -> bool:
        tree = Tree(root, 0o022, DurableNames())
        try:
            tree.ensure((b"flip", b"new %d" % (number % 100), b"newer"))
            with tree.folder((b"flip", b"new %d" % (number % 100))) as fd:
                os.rmdir("newer", dir_fd=fd)
        finally:
            tree.close()
        return True

    with swapped_folder(arena):
        arena.run(operation)
    root.close()


@pytest.mark.case("D74")
@pytest.mark.parametrize("size", [5, LARGE], ids=["small", "large"])
def test_publishing(arena: Arena, size: int) -> None:
    """Looked up, stored, recorded, linked or moved, and synced; whatever is reported as stored is in the inbox."""
    inbox = Inbox.open(str(arena.inbox), means=arena.means)
    data = content(size)

    def operation(number: int) -> bool:
        name = f"{number}"
        return Sending(inbox, {name: data}, into=(b"flip",)).run()[name] == f"stored flip/{name}"

    with swapped_folder(arena):
        arena.run(operation)
    inbox.close()
    stored = [path for path in arena.inbox.rglob("[0-9]*") if ".ftx" not in path.parts]
    assert len(stored) >= arena.let_in
    assert {path.stat().st_size for path in stored} == {size}


@pytest.mark.case("D74")
def test_finishing_folders(arena: Arena) -> None:
    """Rights and times are set, and rights are given back, on folders of the inbox only."""
    inbox = Inbox.open(str(arena.inbox), means=arena.means)
    Sending(inbox, {"flip": None, "flip/in": None}).run()
    (arena.outside / "in").mkdir(mode=0o751)

    def operation(number: int) -> bool:
        sending = Sending(inbox, {"flip": None, "flip/in": None}, mtime_ns=MTIME + number)
        with closing(sending.store):
            sending.offer()
            sending.finish_folders(0o500)
        return sending.result("flip/in") == "stored flip/in"

    with swapped_folder(arena):
        arena.run(operation)
    inbox.close()


@pytest.mark.case("D74")
def test_reading_what_is_there(arena: Arena) -> None:
    """A file outside that would fit the record is never taken for the one in the inbox: that would be reading it."""
    inbox = Inbox.open(str(arena.inbox), means=arena.means)
    data = content(LARGE)
    tree: dict[str, bytes | None] = {"flip": None, "flip/file": data}
    assert Sending(inbox, tree).run()["flip/file"] == "stored flip/file"
    shutil.copy2(arena.inbox / "flip" / "file", arena.outside / "file")
    (arena.inbox / "flip" / "file").unlink()

    def operation(number: int) -> bool:
        sending = Sending(inbox, tree)
        with closing(sending.store):
            answer = sending.offer()["flip/file"]
        assert not isinstance(answer, Have), "the file outside was read"
        return sending.result("flip/file") == "open"

    with swapped_folder(arena):
        arena.run(operation)
    inbox.close()


@pytest.mark.case("D74", "D77")
def test_a_target_that_comes_and_goes(arena: Arena) -> None:
    """A link to the outside appears at the very name that is published: it is taken, or it is not there."""
    inbox = Inbox.open(str(arena.inbox), means=arena.means)
    (arena.inbox / "link").symlink_to(arena.outside / "victim")

    def operation(number: int) -> bool:
        stored = Sending(inbox, {"name": b"%d" % number}, conflict="fail", mtime_ns=MTIME + number).run()["name"]
        with suppress(FileNotFoundError):
            if not stat.S_ISLNK(os.lstat(arena.inbox / "name").st_mode):
                os.rename(arena.inbox / "name", arena.folder / "done")
        return stored == "stored name"

    with arena.race(arena.inbox / "link", arena.inbox / "name", "come-and-go"):
        arena.run(operation)
    inbox.close()


@pytest.mark.case("D74")
@pytest.mark.parametrize("conflict", ["overwrite", "backup"])
def test_replacing(arena: Arena, conflict: str) -> None:
    """What is replaced or moved aside is a file of the inbox, never the one of that name outside."""
    inbox = Inbox.open(str(arena.inbox), means=arena.means)
    (arena.outside / "file").write_bytes(b"outside")

    def operation(number: int) -> bool:
        if number % 100 == 0:  # not so many copies that there is no name left for one
            for path in (arena.folder / "inbox").glob("*/file?*"):
                with suppress(OSError):
                    os.rename(path, arena.folder / "done")
        tree = {"file": b"%d" % number}
        sending = Sending(inbox, tree, into=(b"flip",), conflict=conflict, mtime_ns=MTIME + number)
        return sending.run()["file"] == "stored flip/file"

    with swapped_folder(arena):
        arena.run(operation)
    inbox.close()


@contextmanager
def swapped_partial(arena: Arena, staging: Staging, key: bytes, harm: str) -> Iterator[Path]:
    """The partial `key` is one of ours, about to be published as read-only, and the file outside under its name."""
    with ordinary_user():
        partial = Partial(staging, key, LARGE, lambda taken: None, 0)
        block = content(LARGE)[:BLOCK]
        assert partial.write(0, [block], block_digest([block]))
        partial.sync()
        partial.release()
    folder = arena.inbox / ".ftx" / "partial"
    name, other = folder / key.hex(), folder / "other"
    name.chmod(0o400)
    if harm == "link":
        other.symlink_to(arena.outside / "victim")
    else:
        os.link(arena.outside / "victim", other)
    # a rename is a change of status of what is renamed, and with a hard link that is the file outside
    with arena.race(name, other, ctime=harm == "link"):
        yield name


@pytest.mark.case("D74", "D78")
@pytest.mark.parametrize("harm", ["link", "hard link"])
def test_resuming_a_partial(arena: Arena, harm: str) -> None:
    """What is opened, made writable and written to is a partial of ours, never what its name leads to meanwhile."""
    give_away(arena.folder)
    key = partial_key(PEER, b"a", LARGE, MTIME)
    with ordinary_user():
        root = Root(str(arena.inbox), arena.means)
        staging = Staging(root)

    def operation(number: int) -> bool:
        found = staging.open_partial(key, LARGE)
        if found is None:
            return False
        fd, journal = found
        journal.close()
        os.pwrite(fd, b"x", 0)
        os.fchmod(fd, 0o400)
        os.close(fd)
        return True

    with swapped_partial(arena, staging, key, harm), ordinary_user():
        arena.run(operation)
    staging.close()
    root.close()


@pytest.mark.case("D74", "H133")
def test_cleaning(arena: Arena) -> None:
    """What is removed is a name among the partials; what it leads to stays."""
    root = Root(str(arena.inbox), arena.means)
    staging = Staging(root)

    def operation(number: int) -> bool:
        return staging.clean(time.time() + (PARTIAL_DAYS + 1) * 86400) > 0

    with arena.race(arena.inbox / ".ftx" / "partial" / ("ab" * 32), arena.outside / "victim", "plant"):
        arena.run(operation)
    staging.close()
    root.close()


@pytest.mark.case("D74")
def test_starting(arena: Arena) -> None:
    """`.ftx` itself is a folder of ours, or the start is refused: no lock, no records, no partials elsewhere."""
    Inbox.open(str(arena.inbox), means=arena.means).close()
    (arena.inbox / "link").symlink_to(arena.outside)

    def operation(number: int) -> bool:
        Inbox.open(str(arena.inbox), means=arena.means).close()
        return True

    with arena.race(arena.inbox / ".ftx", arena.inbox / "link"):
        arena.run(operation)


@pytest.mark.case("D75")
def test_the_inbox_itself(arena: Arena) -> None:
    """The inbox is renamed and another folder takes its name: all goes to the one that is held, records included."""
    inbox = Inbox.open(str(arena.inbox), means=arena.means)
    before = state_of(arena.outside)
    with flipping("exchange", arena.inbox, arena.outside, arena.folder / "counter") as flips:
        begun = flips.count

        def operation(number: int) -> bool:
            name = f"{number}"
            return Sending(inbox, {name: b"small", f"{name}x": content(LARGE)}).run()[name] == f"stored {name}"

        arena.kept_out = 1  # there is nothing to be kept out of
        count = arena.run(operation)
        arena.flips = flips.count - begun
        assert arena.flips > 100
    held = os.fstat(inbox._device.root.fd).st_ino
    inbox.close()
    (moved,) = (path for path in (arena.inbox, arena.outside) if path.stat().st_ino == held)
    (other,) = {arena.inbox, arena.outside} - {moved}
    assert arena.let_in == count
    assert {path.name for path in moved.iterdir()} >= {f"{number}x" for number in range(1, count + 1)}
    assert sorted(path.name for path in other.iterdir()) == ["deep", "victim"]
    assert list(state_of(other).values())[1:] == list(before.values())[1:]


def test_what_is_written_in_blocks_is_whole() -> None:
    """The sizes that these races are run with are a small file and one with a partial."""
    assert len(blocks_of(content(LARGE))) == 2
