"""The file of known peers: private, whole or refused, never losing a change."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.core.identity import format_id
from ftx.core.peers import Peer, TrustStore
from ftx.disk import peers, private
from ftx.errors import FtxError

A, B = bytes([1]) * 32, bytes([2]) * 32
DAY = "2026-11-22T09:30:00Z"
PI = Peer("pi", A, ("192.0.2.1", "fe80::1%eth0"), DAY, DAY)
NAS = Peer('a "quoted" \\ naïve name', B, (), DAY)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "peers.toml"


def add(file: Path, *new: Peer) -> TrustStore:
    def change(store: TrustStore) -> TrustStore:
        for peer in new:
            store = store.add(peer)
        return store

    return peers.update(str(file), change)


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o600)


def refusal(file: Path) -> str:
    with pytest.raises(FtxError) as caught:
        peers.load(str(file))
    assert caught.value.name == "state-unusable"
    assert str(file) in caught.value.message
    return caught.value.message


def test_no_file_is_no_peers(file: Path) -> None:
    assert peers.load(str(file)) == TrustStore()
    assert not file.exists()


def test_what_is_written_is_read_back(file: Path) -> None:
    written = add(file, PI, NAS)
    assert peers.load(str(file)) == written == TrustStore((PI, NAS))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(os.listdir(file.parent)) == ["peers.toml", "peers.toml.lock"]


names = st.text(min_size=1, max_size=64)


@given(written=st.lists(names, max_size=5))
def test_every_name_a_peer_may_have_survives(
    tmp_path_factory: pytest.TempPathFactory, written: list[str]
) -> None:
    store = TrustStore()
    for number, name in enumerate(written):
        try:
            store = store.add(Peer(name, bytes([number]) * 32, (), DAY))
        except FtxError:
            continue
    file = tmp_path_factory.mktemp("peers") / "peers.toml"
    peers.update(str(file), lambda _old: store)
    assert peers.load(str(file)) == store


@pytest.mark.case("E96")
def test_a_file_cut_anywhere_is_refused(file: Path) -> None:
    add(file, PI, NAS)
    whole = file.read_bytes()
    for length in range(len(whole)):
        write(file, whole[:length])
        if whole[length:].strip():
            refusal(file)
        else:
            assert peers.load(str(file)) == TrustStore((PI, NAS))


@pytest.mark.case("E96", "L175")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("version = 1", "version = 2"), "version"),
        (lambda text: text.replace("count = 2", "count = 1"), "should have 1 peers and has 2"),
        (lambda text: text.replace("count = 2", "count = 2\nother = 1"), "other"),
        (lambda text: text.replace("seen =", "sean ="), "sean"),
        (lambda text: text.replace(format_id(B), format_id(A)), "same identity"),
        (lambda text: text.replace(format_id(A), format_id(A).upper()), "not written as ftx writes it"),
        (lambda text: text.replace(format_id(A), "b" + format_id(A)[1:]), "mistake in group 1"),
        (lambda text: text.replace('"pi"', '" pi"'), "not written as ftx writes it"),
        (lambda text: text.replace('"pi"', '"a:b"'), "cannot contain"),
        (lambda text: text.replace('"pi"', "7"), "Expected `str`"),
        (lambda text: text.replace('"pi"', '"\x1b[31m"'), "damaged"),
        (lambda text: "[" * 100_000, "damaged"),
        (lambda text: "x = " + "[" * 100_000, "damaged"),
        (lambda text: "\udcff" + text, "damaged"),
        (lambda text: "\0" * 500, "damaged"),
    ],
)
def test_a_damaged_file_is_refused_never_half_read(
    file: Path, change: Callable[[str], str], says: str
) -> None:
    add(file, PI, NAS)
    write(file, change(file.read_text("utf-8")).encode("utf-8", "surrogateescape"))
    sentence = refusal(file)
    assert says in sentence
    assert sentence.isprintable()
    before = file.read_bytes()
    with pytest.raises(FtxError, match="damaged"):
        add(file, PI)
    assert file.read_bytes() == before


def test_what_is_not_private_is_refused(file: Path) -> None:
    add(file, PI)
    file.chmod(0o644)
    assert "open to other users" in refusal(file)
    file.chmod(0o620)
    assert "open to other users" in refusal(file)
    file.unlink()
    file.symlink_to("/dev/null")
    assert "symbolic link" in refusal(file)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert "not a regular file" in refusal(file)
    file.unlink()
    with file.open("wb") as big:
        big.truncate(1 << 30)
    file.chmod(0o600)
    assert "too large" in refusal(file)


def test_a_change_that_fails_changes_nothing(file: Path) -> None:
    add(file, PI)
    before = file.stat()
    with pytest.raises(FtxError, match="no peer is called"):
        peers.update(str(file), lambda store: store.remove("nas"))
    peers.update(str(file), lambda store: store)
    assert file.stat() == before


def test_changes_of_several_processes_are_all_kept(file: Path) -> None:
    program = (
        "import sys; from ftx.core.peers import Peer; from ftx.disk import peers\n"
        "for n in range(10):\n"
        "    name = f'{sys.argv[2]}-{n}'\n"
        "    peers.update(sys.argv[1], lambda s: s.add(Peer(name, name.encode().ljust(32, b'.'))))"
    )
    runs = [subprocess.Popen([sys.executable, "-c", program, str(file), str(n)]) for n in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    found = {peer.name for peer in peers.load(str(file)).peers}
    assert found == {f"{run}-{n}" for run in range(3) for n in range(10)}


def test_a_lock_that_is_held_is_an_error_not_a_hang(file: Path) -> None:
    def while_held(store: TrustStore) -> TrustStore:
        lock = private.locked(f"{file}.lock", "state-unusable", wait=0.05)
        with pytest.raises(FtxError, match="another process holds"), lock:
            pass
        return store.add(PI)

    peers.update(str(file), while_held)
    with private.locked(f"{file}.lock", "state-unusable", wait=0):
        assert peers.load(str(file)) == TrustStore((PI,))


def age(file: Path) -> peers.Watched:
    """A watch an hour from now: the file is old enough for it to trust what stat says."""
    watched = peers.Watched(str(file), clock=lambda: time.time_ns() + 3600 * 10**9)
    watched.current()
    return watched


def test_a_watch_sees_every_change(file: Path) -> None:
    watched = peers.Watched(str(file))
    assert watched.current() == TrustStore()
    add(file, PI)
    assert watched.current() == TrustStore((PI,))
    add(file, NAS)
    assert watched.current() == TrustStore((PI, NAS))
    peers.update(str(file), lambda store: store.remove("pi"))
    assert watched.current() == TrustStore((NAS,))
    file.unlink()
    assert watched.current() == TrustStore()


def test_a_watch_reads_an_unchanged_file_once(file: Path) -> None:
    add(file, PI)
    watched = age(file)
    assert watched.current() is watched.current()
    add(file, NAS)
    assert watched.current() == TrustStore((PI, NAS))


def test_a_watch_never_goes_on_with_a_damaged_file(file: Path) -> None:
    add(file, PI)
    watched = age(file)
    whole = file.read_bytes()
    write(file, whole[:-40])
    for _ in range(2):
        with pytest.raises(FtxError, match="damaged"):
            watched.current()
    write(file, whole)
    assert watched.current() == TrustStore((PI,))
    watched = age(file)
    file.chmod(0o666)
    with pytest.raises(FtxError, match="open to other users"):
        watched.current()


class Paused:
    """A thread that asks `watched`, and waits at the `nth` call of, or return from, a function of the module."""

    def __init__(self, watched: peers.Watched, event: str, function: str, nth: int) -> None:
        self._stop = (event, function)
        self._left = nth
        self._there, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(watched,), daemon=True)
        self._thread.start()
        self._there.wait(2)  # where threads keep each other out, it does not come so far

    def _ask(self, watched: peers.Watched) -> None:
        sys.setprofile(self._profile)
        watched.current()

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if (event, frame.f_code.co_name) == self._stop and frame.f_globals["__name__"] == peers.__name__:
            self._left -= 1
            if not self._left:
                self._there.set()
                self._go.wait(10)

    def go(self) -> None:
        """Let it come to its end, if nothing else is in its way."""
        self._go.set()
        self._thread.join(2)


def test_a_reader_who_is_overtaken_does_not_bring_a_removed_peer_back(file: Path) -> None:
    """One thread has read the old list and waits, another reads the new one: in the end the new one counts."""
    add(file, PI)
    add(file, NAS)
    watched = peers.Watched(str(file), clock=lambda: time.time_ns() + 3600 * 10**9)
    old = Paused(watched, "return", "_decode", 1)
    peers.update(str(file), lambda store: store.remove("pi"))
    new = Paused(watched, "call", "_signature", 2)
    old.go()
    new.go()
    old.go()
    assert watched.current() == TrustStore((NAS,))
