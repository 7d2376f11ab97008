"""Configuration and state from outside: files that are no files, few descriptors, odd environments, full disks."""

from __future__ import annotations

import os
import re
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lab import Lab, until
from support.private_mount import with_private_mount

from ftx.daemon.config import Request, load
from ftx.disk import keys, peers
from ftx.errors import FtxError


def _read(home: Path, name: str) -> object:
    """What a start reads of this file."""
    if name == "config.toml":
        return load(Request(home=str(home), uid=os.geteuid(), host="here"))
    return keys.load(str(home / name)) if name == "identity.key" else peers.load(str(home / name))


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)
    path.chmod(0o600)


def _changeable(path: Path) -> None:
    path.touch()
    path.chmod(0o606)


@pytest.mark.parametrize("name", ["config.toml", "identity.key", "peers.toml"])
@pytest.mark.parametrize(
    "make",
    [_changeable, _huge, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")],
    ids=["changeable by others", "1 GiB", "folder", "FIFO", "device"],
)
def test_L174_what_is_no_file_of_ours(tmp_path: Path, name: str, make: Callable[[Path], object]) -> None:
    """A sentence that names the file, at once; an empty file is no configuration, and no key."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    make(home / name)
    with pytest.raises(FtxError) as caught:
        _read(home, name)
    assert str(home / name) in caught.value.message
    assert len(caught.value.message) < 400


def test_L174_empty_files(tmp_path: Path) -> None:
    """Nothing is configured by an empty file, nobody is known by it, and it is no key."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in ("config.toml", "identity.key", "peers.toml"):
        (home / name).touch(0o600)
    assert load(Request(home=str(home), uid=os.geteuid(), host="here")).name == "here"
    with pytest.raises(FtxError, match="does not contain a usable key"):
        keys.load(str(home / "identity.key"))
    with pytest.raises(FtxError, match="damaged"):
        peers.load(str(home / "peers.toml"))


def test_L176_a_key_that_cannot_be_read_any_more(lab: Lab) -> None:
    """The key in memory stays, the answer says so, and everything else of the reload counts; so with another key."""
    daemon = lab.daemon()
    before = daemon.call("daemon.status")["id"]
    (daemon.home / "config.toml").write_text('name = "new"\nlisten = ["tcp:1"]\ninbox = "/elsewhere"\n', "utf-8")
    (daemon.home / "identity.key").chmod(0o644)
    answer = daemon.call("daemon.reload")
    assert answer["changed"] == ["name"]
    assert answer["needs_restart"] == ["inbox"]  # where it listens, says the command line
    assert len(answer["warnings"]) == 1
    assert "is open to other users" in answer["warnings"][0]
    assert "the key that was read at the start stays" in answer["warnings"][0]
    (daemon.home / "identity.key").unlink()
    keys.load_or_create(str(daemon.home / "identity.key"))
    said = lab.client("ctl", "reload", json=False).ends()
    assert "warning: there is another identity key in the file" in said.out.read_text("utf-8")
    status = daemon.call("daemon.status")
    assert (status["id"], status["name"]) == (before, "new")
    daemon.clean_log()


@pytest.mark.case("L173")
def test_a_reload_changes_all_or_nothing(lab: Lab) -> None:
    """A mistake anywhere changes nothing; what cannot be changed is named, again and again; what can, counts."""
    daemon = lab.daemon("home", discovery=True)
    config = daemon.home / "config.toml"
    config.write_text('name = "new"\naccpet = "own"\n', "utf-8")
    wrong = lab.client("ctl", "reload", json=False).ends(2)
    assert f"unknown key accpet in {config}" in wrong.text()
    assert "did you mean accept?" in wrong.text()
    assert daemon.call("daemon.status")["name"] != "new"
    fixed = f'inbox = "{lab.root}/other"\ncontrol_group = "0"\nlog_format = "json"\n'
    config.write_text(f'name = "new"\n{fixed}discovery = "off"\n', "utf-8")
    for _ in range(2):
        assert daemon.call("daemon.reload")["needs_restart"] == ["inbox", "control_group", "log_format"]
    status = daemon.call("daemon.status")
    assert (status["name"], status["discovery"], status["inbox"]) == ("new", None, str(daemon.inbox))
    config.write_text('names = "any"\n', "utf-8")
    assert daemon.call("daemon.reload")["changed"] == ["name", "names", "discovery"]
    assert daemon.call("daemon.status")["discovery"]["port"] == lab.discovery_port
    (lab.root / "a\nb").write_text("x", "utf-8")
    lab.send(daemon, lab.root / "a\nb")
    assert (daemon.inbox / "a\nb").exists()
    assert daemon.call("daemon.reload") == {"ok": True, "changed": [], "needs_restart": [], "warnings": []}
    daemon.clean_log()


def test_L177_few_descriptors(lab: Lab) -> None:
    """It takes as many as it may have; where that is few it says so, and a job of many files ends well all the same."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({}, {})); "
    run = "from ftx.daemon.main import main; sys.exit(main())"
    more = lab.daemon("more", runner=["-c", script.format(100, min(hard, 3000)) + run])
    limits = Path(f"/proc/{more.pid}/limits").read_text("ascii")
    assert re.search(rf"Max open files\s+{min(hard, 3000)}\s", limits)
    assert "files may be open at once" not in more.text()
    few = lab.daemon("home", runner=["-c", script.format(100, 300) + run])
    assert "only 300 files may be open at once" in few.text()
    (lab.root / "source").mkdir()
    for number in range(400):
        (lab.root / "source" / f"f{number}").write_bytes(b"%d" % number)
    assert lab.send(few, lab.root / "source").one("done")["files"] == 400
    few.clean_log()


def test_L178_variables_of_other_programs(lab: Lab) -> None:
    """No secrets are written down, nobody else is trusted, and the result is the same."""
    weaker = "[c]\nMaxProtocol = TLSv1.2\nCipherString = NULL\n"
    text = f"openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n{weaker}"
    (lab.root / "openssl.cnf").write_text(text, "utf-8")
    odd = {
        "SSLKEYLOGFILE": str(lab.root / "secrets"),
        "OPENSSL_CONF": str(lab.root / "openssl.cnf"),
        "SSL_CERT_FILE": str(lab.root / "openssl.cnf"),
        "TMPDIR": "/does/not/exist",
        "TZ": "../../etc/passwd",
        "LANG": "xx_XX.UTF-16",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONWARNINGS": "error",
        "http_proxy": "http://127.0.0.1:1/",
    }
    daemon = lab.daemon(environ=odd)
    (lab.root / "n\u00e9").write_text("content", "utf-8")
    lab.send(daemon, lab.root / "n\u00e9", environ=odd)
    assert (daemon.inbox / "n\u00e9").read_text("utf-8") == "content"
    lab.key("stranger")
    refused = lab.send(daemon, lab.root / "n\u00e9", home="stranger", environ=odd, code=5)
    assert refused.failure()["name"] == "unknown-peer"
    assert not (lab.root / "secrets").exists()
    daemon.clean_log()


#: Runs where `home` is a file system of 256 KiB that is full: an existing peer is served, and nobody else is let in.
FULL = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from support.lab import Lab
root = Path(sys.argv[1])
with Lab(root) as lab:
    daemon = lab.daemon(inbox=root / "inbox")
    daemon.call("peers.add", name="pi", id=lab.identity("pi"))
    server = daemon.call("daemon.status")["id"]
    lab.client("peers", "add", "box", server, f"127.0.0.1:{daemon.port}", home="pi").ends()
    daemon.signal(15)
    daemon.wait()
    try:
        with (root / "home" / "fill").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
    except OSError:
        pass
    daemon = lab.again(daemon)
    lab.identity("stranger")
    answer = daemon.ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "peers.add",
        "params": {"name": "new", "id": lab.identity("stranger")}}))
    assert "no space left on device" in answer["error"]["message"], answer
    assert daemon.call("daemon.status")["peers_paired"] == 1
    (root / "file").write_text("content")
    lab.client("send", "--to", "box", str(root / "file"), home="pi").ends()
    assert (root / "inbox" / "file").read_text() == "content"
    daemon.clean_log()
    daemon.signal(15)
    daemon.wait()
    subprocess.run(["mount", "-o", "remount,ro", str(root / "home")], check=True)
    code, said = lab.refused(inbox=root / "inbox")
    assert code == 1 and "cannot be written" in said and "Traceback" not in said, said
print("all is well")
"""


def test_L179_state_on_a_full_or_a_read_only_disk(short_tmp: Path) -> None:
    """Full: nobody new is paired, and who is paired is served. Read-only: no start, in one sentence."""
    (short_tmp / "home").mkdir(mode=0o700)
    with_private_mount(short_tmp / "home", "size=256k,mode=700", FULL)


def test_L180_a_hostile_working_folder(lab: Lab) -> None:
    """Plugins and modules in the current folder are not ours: not for the programs, nor for those that they start."""
    folder = lab.root / "hostile"
    trap = f"open({str(lab.root / 'trapped')!r}, 'a').write(__file__)\n"
    for name in ("twisted/plugins/ftx_plugin.py", "ftx/__init__.py", "ftx/__main__.py", "sitecustomize.py", "attr.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(trap, "utf-8")
    where = Path(sys.executable).parent
    usual = {**os.environ, "FTX_HOME": str(lab.root / "home")}
    for words in (["ftx-server", "--version"], ["ftx-client", "--version"], ["twistd", "ftx", "--version"]):
        subprocess.run([where / words[0], *words[1:]], cwd=folder, env=usual, check=True, timeout=30)
    command = [where / "ftx-client", "receive", "--no-input"]
    child = subprocess.Popen(command, cwd=folder, env=usual, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        control = lab.root / "home" / "run"
        until(lambda: child.poll() is not None or any(control.glob("**/*.sock")) or _receives(lab), "it receives")
    finally:
        child.send_signal(signal.SIGINT)
        said, _ = child.communicate(timeout=30)
    assert b"Traceback" not in said
    assert not (lab.root / "trapped").exists(), (lab.root / "trapped").read_text("utf-8")


def _receives(lab: Lab) -> bool:
    """Whether the daemon of `receive` has made its socket, wherever that is."""
    return any(stat.S_ISSOCK(path.lstat().st_mode) for path in (lab.root / "home").rglob("*"))


def test_the_log_of_twistd(lab: Lab) -> None:
    """It says everything, and its level is not ours to change; with `--logger` it is our log, and is."""
    twistd = ["-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
    plain = lab.daemon("plain", runner=[*twistd, "ftx"])
    refused = lab.client("ctl", "log-level", "warn", home="plain", json=False)
    ours = lab.daemon("ours", runner=[*twistd, "--logger", "ftx.daemon.logs.text_lines", "ftx"])
    refused.ends(None)
    assert "--logger ftx.daemon.logs.text_lines" in refused.text()
    assert ours.call("daemon.log_level", level="warn") == {"level": "warn"}
    plain.clean_log()


def test_watches_that_their_user_ends(lab: Lab) -> None:
    """Ctrl-C ends a watch well, whatever it watched."""
    loopback = {"FTX_DISCOVERY_INTERFACE": "lo"}
    lab.daemon(discovery=True, environ=loopback)
    watching = [
        lab.client("ctl", "watch", home="home"),
        lab.client("discover", "--watch", home="other", environ=loopback),
    ]
    for client in watching:
        until(lambda client=client: client.events, "something is seen", said=client)  # type: ignore[misc]
        client.signal(signal.SIGINT)
        client.ends(0)
    assert watching[1].events[-1]["event"] == "summary"
