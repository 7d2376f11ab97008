"""Daemons on kernels and file systems that offer less, change under them, or are in an odd state."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import support.refusing
from support.gate import Gate
from support.lab import Daemon, Lab, until
from support.private_mount import with_private_mount
from support.trees import MiB, make_tree, snapshot, visible

EVERYTHING = ("openat2", "renameat2", "syncfs", "fallocate", "tmpfile")


def refusing(errno: str, *calls: str) -> list[str]:
    """The words of a daemon that is refused system calls."""
    return [support.refusing.__file__, errno, *calls, "--"]


@pytest.mark.parametrize(
    ("errno", "calls"), [("ENOSYS", EVERYTHING), ("EPERM", ("openat2",))], ids=["old-kernel", "sandbox"]
)
def test_D73_D83_a_kernel_that_refuses(lab: Lab, errno: str, calls: tuple[str, ...]) -> None:
    """openat2 and the other newer calls answered with an error, for real: all arrives, and nothing leads out."""
    if os.uname().machine not in support.refusing.CALLS:
        pytest.skip("the numbers of the system calls are not known here")
    sizes: dict[str | bytes, int] = {f"many/{number}": 100 + number for number in range(12)}
    make_tree(lab.root / "source", sizes | {"large": 2 * MiB + 1, "out/file": 10, "in/deep/file": 10})
    daemon = lab.daemon(runner=refusing(errno, *calls))
    outside = lab.root / "outside"
    outside.mkdir()
    (daemon.inbox / "source").mkdir()
    (daemon.inbox / "source" / "out").symlink_to(outside)
    (daemon.inbox / "source" / "large").write_bytes(b"mine")
    client = lab.send(daemon, "source", code=9)
    failed = {event["path"]: event["error"]["name"] for event in client.of("file") if event["status"] == "failed"}
    assert set(failed) == {"source/out", "source/out/file"}
    assert failed["source/out"] == "bad-name"
    assert os.listdir(outside) == []
    assert (daemon.inbox / "source" / "large").read_bytes() == b"mine"
    assert (daemon.inbox / "source" / "large (1)").stat().st_size == 2 * MiB + 1
    (daemon.inbox / "source" / "out").unlink()
    daemon.kill()
    daemon = lab.again(daemon)
    again = lab.send(daemon, "source").one("done")
    assert (again["bytes_wire"], again["files_identical"]) == (10, 14)
    (daemon.inbox / "source" / "large").unlink()
    (daemon.inbox / "source" / "large (1)").rename(daemon.inbox / "source" / "large")
    here, there = snapshot(daemon.inbox / "source"), snapshot(lab.root / "source")
    del here[b"."], there[b"."]  # that folder was there before
    assert here == there
    assert daemon.partials() == []
    daemon.clean_log()


@pytest.fixture
def mounted(lab: Lab) -> Iterator[Callable[..., Path]]:
    """Mounts file systems below the lab, and takes them away after its processes have ended."""
    places: list[Path] = []

    def mount(name: str, *words: str) -> Path:
        place = lab.root / name
        place.mkdir()
        done = subprocess.run(["mount", *words, place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot be mounted: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    lab.__exit__()
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


def an_image(lab: Lab) -> str:
    """An ext4 file system in a file."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4")
    image = lab.root / "image"
    with image.open("wb") as file:
        file.truncate(48 * MiB)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    return str(image)


@pytest.mark.parametrize(("kind", "size"), [("btrfs", 128), ("xfs", 320)])
def test_a_file_system_that_shares_blocks(lab: Lab, mounted: Callable[..., Path], kind: str, size: int) -> None:
    """What an older copy has is shared with it, not written; what the disk has lost of it travels."""
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"needs mkfs.{kind}")
    image, source = lab.root / "image", lab.root / "file"
    with image.open("wb") as file:
        file.truncate(size * MiB)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
    disk = mounted("disk", "-o", "loop", str(image))
    content = bytearray(random.Random(5).randbytes(8 * MiB + 5))

    def put(second: int) -> None:
        content[3 * MiB] ^= 1
        source.write_bytes(content)
        os.utime(source, ns=(1, 1_700_000_000_000_000_000 + second * 10**9))

    def lose(*blocks: int) -> Daemon:
        daemon.clean_log()
        daemon.kill()
        subprocess.run(["umount", disk], check=True)
        with image.open("r+b") as file, mmap.mmap(file.fileno(), 0) as raw:
            for block in blocks:
                at = raw.find(content[block * MiB : block * MiB + 512])
                raw[at : at + 512] = bytes(512)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
        return lab.again(daemon)

    put(1)
    daemon = lab.daemon(inbox=disk / "inbox")
    lab.send(daemon, "file")
    put(2)
    before = daemon.io()["wchar"]
    assert lab.send(daemon, "file").one("done")["bytes_wire"] == MiB
    assert daemon.io()["wchar"] - before < 2 * MiB
    assert (daemon.inbox / "file (1)").read_bytes() == content
    daemon = lose(5)
    put(3)
    assert lab.send(daemon, "file").one("done")["bytes_wire"] == 2 * MiB
    assert (daemon.inbox / "file (2)").read_bytes() == content
    daemon = lose(0, 1, 2)
    put(4)
    failed = lab.send(daemon, "file", code=7).one("file")
    assert failed["error"]["name"] == "digest-mismatch"
    lab.send(daemon, "file")
    assert (daemon.inbox / "file (3)").read_bytes() == content
    daemon.clean_log()


def test_D81_the_file_system_becomes_read_only(lab: Lab, mounted: Callable[..., Path]) -> None:
    """As ext4 does when its disk fails, in the middle: files fail, the daemon stays; mounted anew, it goes on."""
    make_tree(lab.root / "source", {"a": 12 * MiB, "b": 10})
    image = an_image(lab)
    disk = mounted("disk", "-o", "loop", image)
    daemon = lab.daemon(inbox=disk / "inbox")
    with Gate(daemon.port, hold=6 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", bytes_sent=4 * MiB)
        subprocess.run(["mount", "-o", "remount,abort", disk], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (disk / "written").write_bytes(b"1")
        gate.open()
        code = client.wait()
    assert code == 6, client.text()
    failed = {event["path"]: event["error"]["name"] for event in client.of("file") if event["status"] == "failed"}
    assert failed["source/a"] == "storage-failed"
    assert visible(daemon.inbox) == {}
    assert lab.send(daemon, "source", code=6).events
    assert daemon.call("daemon.status")["jobs"]["active"] == 0
    assert "read-only file system" in daemon.text()
    assert "Traceback" not in daemon.text()
    daemon.kill()
    subprocess.run(["umount", disk], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    daemon = lab.again(daemon)
    lab.send(daemon, "source")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    daemon.clean_log()


def test_E90_no_inodes(lab: Lab, mounted: Callable[..., Path]) -> None:
    """Space there is, and no room for another file: `no-space`, the log says inodes, and the rest arrives later."""
    make_tree(lab.root / "source", {f"{number}": 10 for number in range(30)})
    disk = mounted("disk", "-t", "tmpfs", "-o", "size=32m,nr_inodes=30", "none")
    daemon = lab.daemon(inbox=disk / "inbox")
    client = lab.send(daemon, "source", code=9)
    failed = [event["error"]["name"] for event in client.of("file") if event["status"] == "failed"]
    assert failed
    assert set(failed) == {"no-space"}
    assert "no inodes left" in daemon.text()
    daemon.clean_log()
    subprocess.run(["mount", "-o", "remount,nr_inodes=1000", disk], check=True)
    lab.send(daemon, "source")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")


def test_E93_a_disk_that_stalls(lab: Lab) -> None:
    """Every sync waits: the control socket answers meanwhile, nobody gives up, and all is stored in the end."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    make_tree(lab.root / "source", {"large": 2 * MiB, "small": 10})
    daemon = lab.daemon()
    syncs = "fsync,fdatasync,syncfs"
    stall = f"inject={syncs}:delay_enter=100000"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={syncs}", "-e", stall, "-p", str(daemon.pid)]
    tracer = subprocess.Popen(command)
    try:
        status = Path(f"/proc/{daemon.pid}/status")
        until(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), "the daemon is traced")
        client = lab.sending(daemon.url, "source")
        until(lambda: daemon.call("daemon.status")["jobs"]["active"] == 1, "the job runs", said=client)
        answers = 0
        while client.alive:
            until(lambda: daemon.call("jobs.list") is not None, "an answer", 5)
            answers += 1
        client.ends()
    finally:
        tracer.terminate()
        tracer.wait(20)
    assert answers > 10
    assert client.of("retry") == []
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    daemon.clean_log()


def test_E98_no_room_for_the_log(lab: Lab, mounted: Callable[..., Path]) -> None:
    """The disk of the log is full: files arrive as ever, and the daemon stops as it should."""
    make_tree(lab.root / "source", {"large": 2 * MiB, "small": 10})
    disk = mounted("disk", "-t", "tmpfs", "-o", "size=64k", "none")
    (lab.root / "daemon-1.log").symlink_to(disk / "log")
    daemon = lab.daemon()
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    for _ in range(30):
        daemon.ask("nonsense")
    lab.send(daemon, "source")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    lab.send(daemon, "source")
    daemon.signal(15)
    assert daemon.wait() == 0


def test_D79_staging_on_another_file_system(tmp_path: Path) -> None:
    """What is staged could not be linked into the inbox: the start is refused with the reason."""
    (tmp_path / "inbox").mkdir()
    with_private_mount(tmp_path / "inbox", "size=1m", OTHER_DISK)


OTHER_DISK = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[2])
from ftx.disk.inbox import Inbox
from ftx.errors import FtxError

path = sys.argv[1] + "/inbox"
os.mkdir(path + "/.ftx", 0o700)
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "none", path + "/.ftx"], check=True)
try:
    Inbox.open(path)
except FtxError as error:
    assert error.name == "inbox-unusable", error
    assert "another file system" in error.message, error.message
else:
    raise AssertionError("it was opened")
subprocess.run(["umount", path + "/.ftx"], check=True)
Inbox.open(path).close()
print("all is well")
"""


def test_E89_the_disk_of_the_source_fails(lab: Lab) -> None:
    """Reading one file ends in an error: it fails by name, the rest arrives; read well, it arrives, too."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    make_tree(lab.root / "source", {"large": 6 * MiB, "other": 2 * MiB, "small": 10})
    daemon = lab.daemon()
    reads = "pread64,preadv,preadv2,read"
    large = str(lab.root / "source" / "large")
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", large, "-e", f"trace={reads}"]
    inject = ["-e", f"inject={reads}:error=EIO:when=3+"]
    words = ["--home", str(daemon.home), "--json", "send", "--to", daemon.url, str(lab.root / "source")]
    command = [*trace, *inject, sys.executable, "-m", "ftx", *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    events = [json.loads(line) for line in run.stdout.splitlines()]
    failed = [event for event in events if event["event"] == "file" and event["status"] == "failed"]
    assert [(event["path"], event["error"]["name"]) for event in failed] == [("source/large", "source-unreadable")]
    assert run.returncode == 9, run.stderr
    assert "Traceback" not in run.stderr
    assert sorted(visible(daemon.inbox)) == [b"source/other", b"source/small"]
    lab.send(daemon, "source")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    daemon.clean_log()


def test_C71_a_source_that_changed_before_it_is_resumed(lab: Lab) -> None:
    """Half of it is there when other bytes of that length and time take its place: it fails or is new, never a mix."""
    make_tree(lab.root / "source", {"large": 12 * MiB})
    daemon = lab.daemon()
    path = lab.root / "source" / "large"
    with Gate(daemon.port, hold=8 * MiB) as gate:
        client = lab.sending(gate.url, "source")
        gate.wait()
        client.reaches("progress", bytes_durable=MiB)
        client.kill()
        gate.open()
    daemon.idle()
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(2 * MiB)
        file.write(b"another content" * 1000)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # nothing but the ctime tells
    first = lab.send(daemon, "source", code=None)
    if first.popen.returncode:
        assert first.popen.returncode == 7, first.text()
        assert visible(daemon.inbox) == {}
    lab.send(daemon, "source")
    assert snapshot(daemon.inbox / "source") == snapshot(lab.root / "source")
    assert daemon.partials() == []
    daemon.clean_log()
