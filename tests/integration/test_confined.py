"""A daemon that gives up what it will not need: other files (Landlock), and root (`--uid`, `--gid`)."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.lab import NOBODY, Daemon, Lab, until
from support.ports import low_port

from ftx.daemon.config import Request, load
from ftx.daemon.sandbox import made, runnable
from ftx.disk.landlock import EXECUTE, abi
from ftx.errors import FtxError

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

#: Runs a daemon for which the kernel has no Landlock: a seccomp filter answers EPERM to landlock_create_ruleset(2).
WITHOUT = """
import ctypes, struct, sys
def instruction(code, jt, jf, k):
    return struct.pack("HBBI", code, jt, jf, k)
program = ctypes.create_string_buffer(
    instruction(0x20, 0, 0, 0)             # load the number of the call
    + instruction(0x15, 0, 1, 444)         # is it landlock_create_ruleset?
    + instruction(0x06, 0, 0, 0x00050001)  # then EPERM
    + instruction(0x06, 0, 0, 0x7FFF0000)  # else go on
)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(4, ctypes.addressof(program))), 0, 0) == 0
from ftx.daemon.main import main
sys.exit(main())
"""


def landlock() -> int:
    try:
        return abi()
    except OSError:
        return 0


LANDLOCK = pytest.mark.skipif(landlock() < 2, reason="needs Landlock")


def configure(lab: Lab, text: str) -> None:
    lab.key("home")  # makes the folder
    (lab.root / "home" / "config.toml").write_text(text, "utf-8")


@LANDLOCK
def test_a_daemon_cannot_go_elsewhere(lab: Lab) -> None:
    """It receives, serves and is found as ever; what asks it, from a thread of its own, to go elsewhere gets EACCES."""
    for name in ("shared", "elsewhere", "source"):
        (lab.root / name).mkdir()
        (lab.root / name / "file").write_text(name, "utf-8")
    (lab.root / "source" / "large").write_bytes(bytes(3_000_000))
    script = f"""
        cat {lab.root}/shared/file {lab.root}/home/inbox/source/file > read 2>&1
        cat {lab.root}/elsewhere/file /etc/shadow 2> closed
        ls / {lab.root} 2>> closed
        touch {lab.root}/shared/new {lab.root}/elsewhere/new; rm {lab.root}/shared/file
        cp /bin/true run && chmod +x run && ./run 2>> closed
        kill -0 {os.getpid()} && touch signalled
        touch over
    """
    hook = f'[hook.try]\non = "received"\ncommand = ["/bin/sh", "-c", {json.dumps(script)}]\n'
    configure(lab, f"{hook}[share.open]\npath = '{lab.root}/shared'\n")
    daemon = lab.daemon("home", "--sandbox", "strict", discovery=True)
    status = daemon.call("daemon.status")
    assert status["sandbox"] == f"landlock {landlock()}, strict"
    assert re.search(r"^NoNewPrivs:\s+1$", Path(f"/proc/{daemon.pid}/status").read_text("ascii"), re.M)
    lab.send(daemon, lab.root / "source")
    own = daemon.home / "state" / "hooks" / "try"
    until((own / "over").exists, "the end of the hook", said=daemon)
    assert (own / "read").read_text("utf-8") == "sharedsource"
    closed = (own / "closed").read_text("utf-8")
    for path in (f"{lab.root}/elsewhere/file", "/etc/shadow", "'/'", f"'{lab.root}'", "./run"):
        assert re.search(f"{re.escape(path)}.*(Permission denied|not permitted)", closed), (path, closed)
    assert sorted(os.listdir(lab.root / "elsewhere")) == sorted(os.listdir(lab.root / "shared")) == ["file"]
    if landlock() >= 6:
        assert not (own / "signalled").exists()
    lab.client("get", f"{daemon.url}/open", str(lab.root / "got")).ends()
    assert (lab.root / "got" / "open" / "file").read_text("utf-8") == "shared"
    found = lab.client("--timeout", "20", "discover", environ={"FTX_DISCOVERY_PORT": str(lab.discovery_port)})
    assert found.ends().events[0]["port"] == daemon.port

    # What a new configuration needs beyond that is named, and everything else of it counts.
    shares = f"[share.open]\npath = '{lab.root}/shared'\n[share.far]\npath = '{lab.root}/elsewhere'\n"
    configure(lab, f"name = 'new'\n{shares}")
    answer = daemon.call("daemon.reload")
    assert answer["needs_restart"] == ["share far"]
    assert {"name", "hook"} <= set(answer["changed"])
    status = daemon.call("daemon.status")
    assert (status["name"], status["shares"]) == ("new", ["open"])
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert not (daemon.home / "run" / "control.sock").exists()
    daemon.clean_log()


def test_what_is_written_cannot_be_run(tmp_path: Path) -> None:
    """A hook's program beside the home makes nothing in the home a program; one in the home is named."""
    home = tmp_path / "home"
    (home / "inbox").mkdir(parents=True)
    for folder, around in ((tmp_path, []), (home, [str(home / "hook")])):
        (folder / "hook").write_text("#!/opt/python/bin/python3 -u\n", "utf-8")
        command = [str(folder / "hook"), str(home / "inbox"), str(tmp_path)]
        text = f'[hook.a]\non = "received"\ncommand = {json.dumps(command)}\n'
        (home / "config.toml").write_text(text, "utf-8")
        rules = list(made(load(Request({}, str(home)))))
        programs = [rule.path for rule in rules if rule.rights == EXECUTE]
        assert {str(folder / "hook"), "/opt/python/bin/python3"} <= set(programs)
        assert not {str(tmp_path), str(home), str(home / "inbox")} & set(programs)
        assert list(runnable(rules)) == around


@LANDLOCK
def test_what_is_queued_can_be_read(lab: Lab) -> None:
    """Unless it is strict, the daemon reads what its user names; it writes nowhere else either way."""
    (lab.root / "elsewhere").mkdir()
    (lab.root / "elsewhere" / "file").write_text("x", "utf-8")
    script = f"cat {lab.root}/elsewhere/file > read; touch {lab.root}/elsewhere/new 2> closed; touch over"
    configure(lab, f'[hook.try]\non = "received"\ncommand = ["/bin/sh", "-c", "{script}"]\n')
    daemon = lab.daemon()
    queued = lab.client("send", "--later", "--to", daemon.url, str(lab.root / "elsewhere" / "file"))
    queued.ends()
    own = daemon.home / "state" / "hooks" / "try"
    until((own / "over").exists, "the file was sent by the daemon to itself, and the hook ran", said=daemon)
    assert (daemon.inbox / "file").read_text("utf-8") == (own / "read").read_text("utf-8") == "x"
    assert "Permission denied" in (own / "closed").read_text("utf-8")
    assert os.listdir(lab.root / "elsewhere") == ["file"]
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    strict = lab.daemon("home", "--sandbox", "strict")
    assert strict.call("daemon.status")["sandbox"] == f"landlock {landlock()}, strict"
    refused = lab.client("send", "--later", "--to", strict.url, str(lab.root / "elsewhere" / "file"), json=False)
    refused.ends(3)
    assert "the daemon's sandbox keeps it from reading" in refused.text()
    (strict.inbox / "more").write_text("y", "utf-8")
    lab.client("send", "--later", "--to", strict.url, "--into", "sub", str(strict.inbox / "more")).ends()
    until((strict.inbox / "sub" / "more").exists, "what it may read is sent", said=strict)
    until(lambda: not strict.call("queue.list")["entries"], "an empty queue")


@LANDLOCK
def test_what_may_be_used_besides_and_what_needs_no_sandbox(lab: Lab) -> None:
    """`sandbox_also` opens a place for hooks; with `off` there is no sandbox, and the status says so."""
    (lab.root / "also").mkdir()
    hook = f'[hook.copy]\non = "received"\ncommand = ["/bin/sh", "-c", ": > {lab.root}/also/done"]\n'
    configure(lab, f"sandbox_also = ['{lab.root}/also']\n{hook}")
    (lab.root / "file").touch()
    daemon = lab.daemon()
    lab.send(daemon, lab.root / "file")
    until((lab.root / "also" / "done").exists, "the hook", said=daemon)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    plain = lab.daemon("home", "--sandbox", "off")
    assert plain.call("daemon.status")["sandbox"] == "off"
    assert "NoNewPrivs:\t0" in Path(f"/proc/{plain.pid}/status").read_text("ascii")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86_64")
def test_a_kernel_without_landlock(lab: Lab) -> None:
    """It goes on with a warning and says why in its status, unless the sandbox is required."""
    daemon = lab.daemon(runner=["-c", WITHOUT])
    status = daemon.call("daemon.status")
    assert status["sandbox"] == "none: the kernel has no Landlock for us: operation not permitted"
    assert "no sandbox: the kernel has no Landlock for us: operation not permitted" in daemon.text()
    (lab.root / "file").touch()
    lab.send(daemon, lab.root / "file")
    code, said = lab.refused("other", "--sandbox", "require", runner=["-c", WITHOUT])
    assert code == 1
    assert "ftx-server: --sandbox: the kernel has no Landlock for us: operation not permitted" in said
    assert "Traceback" not in said


def identity(daemon: Daemon) -> tuple[set[str], set[str], list[str], int]:
    """User ids, group ids, other groups and effective capabilities of all threads of a daemon."""
    users: set[str] = set()
    groups: set[str] = set()
    others: list[str] = []
    rights = 0
    for task in Path(f"/proc/{daemon.pid}/task").iterdir():
        lines = dict(line.split(":", 1) for line in (task / "status").read_text("ascii").splitlines())
        users |= set(lines["Uid"].split())
        groups |= set(lines["Gid"].split())
        others += lines["Groups"].split()
        rights |= int(lines["CapEff"], 16) | int(lines["CapPrm"], 16)
    return users, groups, others, rights


@ROOT
@pytest.mark.parametrize(
    ("runner", "options"),
    [
        ("ftx-server", ["--uid", "nobody"]),
        ("twistd -n", ["--uid", str(NOBODY), "--gid", str(NOBODY)]),
        (["-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "--uid=65534", "ftx"], []),
    ],
    ids=["ftx-server", "twistd ftx --uid", "twistd --uid ftx"],
)
def test_root_is_given_up(lab: Lab, runner: str | Sequence[str], options: list[str]) -> None:
    """Ports as root, everything else as the user: ids, groups, capabilities, and the owner of all that was made."""
    port = low_port()
    daemon = lab.daemon("home", *options, runner=runner, port=port)
    own = str(pwd.getpwuid(NOBODY).pw_gid)
    users, groups, others, rights = identity(daemon)
    assert users == {str(NOBODY)}
    assert groups == {own}
    assert set(others) <= {own}  # twistd puts itself into the groups of its user, we into none
    assert rights == 0
    assert daemon.port == port
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in [daemon.home, *daemon.home.rglob("*")]}
    assert owners == {(NOBODY, int(own))}
    if runner != "ftx-server":
        return
    daemon.call("peers.add", name="pi", id=lab.identity("sender"))
    server = daemon.call("daemon.status")["id"]
    lab.client("peers", "add", "box", server, f"127.0.0.1:{port}", home="sender").ends()
    (lab.root / "file").write_text("content", "utf-8")
    lab.client("send", "--to", "box", str(lab.root / "file"), home="sender").ends()
    assert (daemon.inbox / "file").stat().st_uid == NOBODY
    assert daemon.call("daemon.reload")["needs_restart"] == []
    daemon.signal(signal.SIGTERM)
    daemon.wait()
    assert not (daemon.home / "run" / "control.sock").exists()
    daemon.clean_log()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"uid": "nosuchuser"}, "--uid: there is no user nosuchuser"),
        ({"uid": "root"}, "--uid: uid is root itself"),
        ({"uid": "4000000000"}, "--uid: nothing says which group the user 4000000000 is in"),
        ({"uid": "4294967295"}, "--uid: there is no user 4294967295"),
        ({"uid": "nobody", "gid": "nosuchgroup"}, "--gid: there is no group nosuchgroup"),
        ({"gid": "0"}, "--gid: it needs a uid to go with"),
    ],
)
def test_whom_nobody_can_become(tmp_path: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(FtxError) as caught:
        load(Request(options, str(tmp_path / "home")))
    assert said in caught.value.message


@ROOT
def test_who_cannot_become_another_user(lab: Lab) -> None:
    """Whoever is not root; in one sentence, and nothing was made."""
    code, words = lab.refused("home", "--uid", "daemon", user=NOBODY)
    assert (code, "Traceback" in words) == (1, False)
    assert "--uid: only root can become another user" in words
    assert not (lab.root / "home").exists()


@ROOT
def test_root_does_not_come_back(lab: Lab) -> None:
    """After `become()` no call gives root back; before it, root was set aside only."""
    script = """
import os
from ftx.disk.account import Account
account = Account(65534, 65534)
with account.acted_as([4]):
    open("made", "x").close()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (65534, 65534, [4])
    with account.as_root():
        assert os.geteuid() == 0
assert (os.geteuid(), os.getegid()) == (0, 0)
account.become()
for back in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setresgid(0, 0, 0), lambda: os.setgroups([0])):
    try:
        back()
    except PermissionError:
        continue
    raise SystemExit("root came back")
"""
    lab.root.chmod(0o777)
    assert os.system(f"cd {lab.root} && {sys.executable} -c '{script}'") == 0
    assert (lab.root / "made").stat().st_uid == NOBODY


def test_an_application_decides_itself_who_it_is(tmp_path: Path) -> None:
    from ftx.daemon.embed import receiver

    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('uid = "nobody"\n', "utf-8")
    with pytest.raises(FtxError, match="an application decides itself as whom it runs"):
        receiver(None, str(home))
