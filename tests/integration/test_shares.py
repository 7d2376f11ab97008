"""Shares, with the real programs: who sees what, what comes back, and what happens when it is cut."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.gate import Gate
from support.hostile import Hostile
from support.lab import NOBODY, Daemon, Lab, until
from support.trees import make_tree, snapshot

from ftx import limits
from ftx.disk.keys import load
from ftx.errors import KINDS
from ftx.wire.messages import Offer, Refuse, Request

MIB = 1 << 20


def get(lab: Lab, daemon: Daemon, *words: str, code: int | None = 0, home: str = "home", cwd: Path | None = None):
    """Get from `daemon` and wait for the end: words with a slash in front are paths of its shares."""
    plain = [daemon.url + word if word.startswith("/") else word for word in words]
    return lab.client("get", *plain, home=home, cwd=cwd).ends(code)


def names(lab: Lab, daemon: Daemon, path: str = "", home: str = "home", code: int = 0) -> list[str]:
    """What `ls` prints."""
    return lab.client("ls", daemon.url + path, home=home, json=False).ends(code).out.read_text().splitlines()


@pytest.fixture
def tree(short_tmp: Path) -> Path:
    """Something of everything."""
    made = short_tmp / "tree"
    make_tree(made, {"small": 10, "deep/er/file": 70_000, "empty": 0, "large": 3 * MIB + 5})
    (made / "nothing").mkdir()
    odd = os.fsencode(made) + b"/\xff odd"
    with open(odd, "wb") as file:
        file.write(b"odd")
    os.chmod(made / "small", 0o640)
    os.utime(made / "small", ns=(1, 1_000_000_000_123_456_789))
    return made


def test_a_tree_comes_back_and_comes_once(lab: Lab, tree: Path, short_tmp: Path) -> None:
    """Bytes, modes and times to the nanosecond; the second time nothing travels; nothing of ftx stays in the folder."""
    daemon = lab.daemon("home", f"--share=photos={tree}")
    first = get(lab, daemon, "/photos", "out", cwd=short_tmp)
    assert snapshot(short_tmp / "out" / "photos") == snapshot(tree)
    assert os.listdir(short_tmp / "out") == ["photos"]
    done = first.one("done")
    assert (done["files"], done["bytes"], done["exit"]) == (5, 70_000 + 10 + 3 * MIB + 5 + 3, 0)
    again = get(lab, daemon, "/photos", "out", cwd=short_tmp).one("done")
    assert (again["files_identical"], again["bytes_wire"]) == (5, 0)
    daemon.clean_log()


def test_who_sees_what(lab: Lab, tree: Path, short_tmp: Path) -> None:
    """My own key sees all, a paired one what is public or granted; all else is not there. A stranger is not let in."""
    home = short_tmp / "home"
    home.mkdir(mode=0o700)
    identity = lab.identity("granted")
    (home / "config.toml").write_text(
        f'[share.open]\npath = "{tree}"\npublic = true\n[share.some]\npath = "{tree}"\n[share.mine]\npath = "{tree}"\n'
        f'[peer.granted]\nid = "{identity}"\nshares = ["some"]\n'
    )
    daemon = lab.daemon("home")
    for other in ("paired", "granted"):
        lab.pair("home", other, other)
        lab.pair(other, "home", "attic")
    assert names(lab, daemon) == ["mine", "open", "some"]
    assert names(lab, daemon, home="granted") == ["open", "some"]
    assert names(lab, daemon, home="paired") == ["open"]
    get(lab, daemon, "/some/small", "got", home="granted", cwd=short_tmp)
    refused = get(lab, daemon, "/some/small", "no", home="paired", code=6, cwd=short_tmp)
    absent = get(lab, daemon, "/none/small", "no", home="paired", code=6, cwd=short_tmp)
    assert refused.failure() == absent.failure()
    assert not (short_tmp / "no").exists()
    assert names(lab, daemon, "/some", home="paired", code=6) == []
    lab.pair("stranger", "home", "attic")
    assert names(lab, daemon, home="stranger", code=5) == []
    get(lab, daemon, "/open/small", "no", home="stranger", code=5, cwd=short_tmp)
    daemon.clean_log()


def test_nothing_outside_of_a_share(lab: Lab, tree: Path, short_tmp: Path, tmp_path: Path) -> None:
    """Links are shown and never followed; the home and its key are in no share, and not by way of a hard link."""
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "up").symlink_to("..")
    daemon = lab.daemon("home", f"--share=all={short_tmp}", inbox=tmp_path / "inbox")
    home = short_tmp / "home"
    os.link(home / "identity.key", short_tmp / "copy")
    shown = lab.client("ls", "-R", daemon.url + "/all").ends().events
    paths = {item["path"] for item in shown}
    assert {item["path"] for item in shown if item["kind"] == "link"} == {"all/tree/link", "all/tree/up"}
    assert not [path for path in paths if path.startswith("all/home") or path == "all/copy" or "/.ftx" in path]
    for path in ("/all/home", "/all/home/identity.key", "/all/copy", "/all/tree/link", "/all/tree/up/tree"):
        get(lab, daemon, path, "no", code=6, cwd=short_tmp)
        assert names(lab, daemon, path, code=6) == []
    # the server matches them: its time grows with a power of the stars
    dear = ["*a" * (limits.PATTERN_STARS + 1)], ["a" + "*" * 40 + "!"], ["*a*"] * (limits.DEAR_PATTERNS + 1)
    for patterns in dear:
        words = [f"--exclude={pattern}" for pattern in patterns]
        assert get(lab, daemon, "/all", "no", *words, code=None, cwd=short_tmp).wait() == 6
        assert not (short_tmp / "no").exists() or not os.listdir(short_tmp / "no")
    client = get(lab, daemon, "/all", "out", "--exclude=client-*", "--exclude=out", cwd=short_tmp, code=None)
    assert {event["path"] for event in client.of("file") if event["status"] == "skipped"} >= {"all/tree/link"}
    assert not (short_tmp / "out" / "all" / "home").exists()
    assert not (short_tmp / "out" / "all" / "copy").exists()
    assert not list((short_tmp / "out").rglob("link"))
    daemon.clean_log()


@pytest.mark.parametrize("victim", ["daemon", "client"])
def test_a_cut_in_the_middle(lab: Lab, short_tmp: Path, victim: str) -> None:
    """kill -9 of either side: the same command gets the rest, without what was durable."""
    make_tree(short_tmp / "tree", {"large": 96 * MIB, **{f"many/{n:03}": 1000 for n in range(200)}})
    daemon = lab.daemon("home", f"--share=s={short_tmp / 'tree'}")
    with Gate(daemon.port, hold=60 * MIB, back=True) as gate:
        client = lab.client("get", "--lanes", "1", gate.url + "/s", "out", cwd=short_tmp)
        client.reaches("progress", bytes_durable=33 * MIB)
        if victim == "daemon":
            daemon.kill()
            gate.open()
            client.reaches("retry", attempt=1)
            daemon = lab.again(daemon)
            done = client.ends().one("done")
            assert done["bytes_wire"] < 200 * MIB
        else:
            client.kill()
    if victim == "client":
        assert (short_tmp / "out" / ".ftx").exists(), "the partial is kept"
        done = get(lab, daemon, "/s", "out", cwd=short_tmp).one("done")
        assert done["bytes_wire"] < 70 * MIB, "a third of it was durable"
    assert snapshot(short_tmp / "out" / "s") == snapshot(short_tmp / "tree")
    assert os.listdir(short_tmp / "out") == ["s"]
    daemon.clean_log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_what_cannot_be_read_there_is_told(lab: Lab, tree: Path, short_tmp: Path) -> None:
    """A file that the daemon may not read fails with its reason; the rest comes, exit 9. Excludes work as with send."""
    os.chmod(tree / "deep" / "er", 0o000)
    for path in (short_tmp, tree, tree / "deep"):
        os.chmod(path, 0o755)
    home = lab.folder_of(NOBODY, "theirs")
    theirs, mine = lab.identity("theirs", user=NOBODY), lab.identity("home")
    lab.client("peers", "add", "me", mine, home="theirs", user=NOBODY).ends()
    lab.client("peers", "add", "they", theirs).ends()
    (home / "config.toml").write_text(f'[share.s]\npath = "{tree}"\npublic = true\n')
    os.chown(home / "config.toml", NOBODY, NOBODY)
    daemon = lab.daemon("theirs", user=NOBODY)
    client = get(lab, daemon, "/s", "out", "--exclude=large", code=9, cwd=short_tmp)
    failed = [event for event in client.of("file") if event["status"] == "failed"]
    assert {event["path"] for event in failed} == {"s/deep/er", "s/small"}
    assert {event["error"]["name"] for event in failed} == {"source-unreadable"}
    assert not (short_tmp / "out" / "s" / "large").exists()
    assert (short_tmp / "out" / "s" / "empty").exists()
    shown = lab.client("ls", "-R", daemon.url + "/s").ends(9).events
    assert [item["error"] for item in shown if item["path"] == "s/deep/er"] == ["source-unreadable"]


def test_content_decides_when_that_is_asked_for(lab: Lab, tree: Path, short_tmp: Path) -> None:
    """Copied by hand, with other times: names that are taken, or with --checksum the same files; nothing travels."""
    daemon = lab.daemon("home", f"--share=photos={tree}")
    shutil.copytree(tree, short_tmp / "out" / "photos")
    for folder, _, files in os.walk(os.fsencode(short_tmp / "out")):
        for name in files:
            os.utime(os.path.join(folder, name), ns=(1, 2_000_000_000_000_000_000))
    get(lab, daemon, "/photos", "out", cwd=short_tmp, code=6)
    done = get(lab, daemon, "/photos", "out", "--checksum", cwd=short_tmp).one("done")
    assert (done["files"], done["files_identical"], done["bytes_wire"]) == (5, 5, 0)
    (short_tmp / "out" / "photos" / "small").write_bytes(b"0123456789")
    changed = get(lab, daemon, "/photos", "out", "--checksum", "--conflict=rename", cwd=short_tmp).one("done")
    assert (changed["files_identical"], changed["bytes_wire"]) == (4, 10)
    get(lab, daemon, "/photos/small", "-o", "-", "--checksum", code=2)
    daemon.clean_log()


def test_compression_is_the_getters_choice(lab: Lab, short_tmp: Path) -> None:
    """Text gets small on the way, unless it shall not."""
    text = b"".join(b"%d bottles of beer on the wall\n" % number for number in range(60_000))
    source = short_tmp / "source"
    source.mkdir()
    for name, content in (("large", text), ("little", text[:5000])):
        (source / name).write_bytes(content)
    daemon = lab.daemon("home", f"--share=s={source}")
    packed = get(lab, daemon, "/s", "one", cwd=short_tmp).one("done")
    plain = get(lab, daemon, "/s", "two", "--compress=off", cwd=short_tmp).one("done")
    assert packed["bytes_wire"] < plain["bytes_wire"] // 3
    assert plain["bytes_wire"] == plain["bytes"] == len(text) + 5000
    assert snapshot(short_tmp / "one" / "s") == snapshot(short_tmp / "two" / "s") == snapshot(source)
    daemon.clean_log()


def test_links_as_the_getter_wants_them(lab: Lab, tree: Path, short_tmp: Path) -> None:
    """Left out and told of, followed inside the share alone, or made here; the second time nothing travels."""
    inside, outside = {"to file": "deep/er/file", "to folder": "deep"}, {"out": "../secret", "etc": "/etc/passwd"}
    for name, target in {**inside, **outside}.items():
        (tree / name).symlink_to(target)
    (short_tmp / "secret").write_bytes(b"secret")
    daemon = lab.daemon("home", f"--share=s={tree}")
    four = {"s/to file", "s/to folder", "s/out", "s/etc"}
    left = get(lab, daemon, "/s", "skipped", cwd=short_tmp)
    assert {event["path"] for event in left.of("file") if event["status"] == "skipped"} == four
    follow = get(lab, daemon, "/s", "followed", "--links=follow", cwd=short_tmp)
    skipped = {event["path"]: event["error"]["name"] for event in follow.of("file") if event["status"] == "skipped"}
    assert skipped == {"s/out": "special-file", "s/etc": "special-file"}
    there = short_tmp / "followed" / "s"
    assert not [path for path in there.rglob("*") if path.is_symlink()]
    assert (there / "to file").read_bytes() == (there / "to folder" / "er" / "file").read_bytes() != b""
    keep = get(lab, daemon, "/s", "kept", "--links=keep", cwd=short_tmp)
    made = {path.name: os.readlink(path) for path in (short_tmp / "kept" / "s").iterdir() if path.is_symlink()}
    assert made == inside
    assert os.lstat(short_tmp / "kept" / "s" / "to file").st_mtime_ns == os.lstat(tree / "to file").st_mtime_ns
    assert keep.one("done")["files"] == 5 + 2
    for words in (["followed", "--links=follow"], ["kept", "--links=keep"]):
        again = get(lab, daemon, "/s", *words, cwd=short_tmp).one("done")
        assert (again["files_identical"], again["bytes_wire"]) == (again["files"], 0)
    get(lab, daemon, "/s/to folder/er", "named", "--links=follow", cwd=short_tmp)
    assert (short_tmp / "named" / "er" / "file").exists()
    for path in ("/s/to folder/er", "/s/out", "/s/etc"):
        get(lab, daemon, path, "no", code=6, cwd=short_tmp)
    for path in ("/s/out", "/s/etc"):
        get(lab, daemon, path, "no", "--links=follow", code=6, cwd=short_tmp)
    daemon.clean_log()


@pytest.mark.case("K166")
def test_names_that_are_taken_here(lab: Lab, tree: Path, short_tmp: Path) -> None:
    """`fail` unless told otherwise; `rename` keeps both, `overwrite` replaces."""
    daemon = lab.daemon("home", f"--share=s={tree}")
    (short_tmp / "out").mkdir()
    (short_tmp / "out" / "small").write_text("mine")
    client = get(lab, daemon, "/s/small", "out", code=6, cwd=short_tmp)
    assert client.one("file")["error"]["name"] == "exists"
    assert (short_tmp / "out" / "small").read_text() == "mine"
    get(lab, daemon, "/s/small", "out", "--conflict=rename", cwd=short_tmp)
    assert (short_tmp / "out" / "small (1)").read_bytes() == (tree / "small").read_bytes()
    (short_tmp / "out" / "small (1)").unlink()
    get(lab, daemon, "/s/small", "out", "--conflict=overwrite", cwd=short_tmp)
    assert (short_tmp / "out" / "small").read_bytes() == (tree / "small").read_bytes()


@pytest.mark.case("K166")
def test_odd_places_to_get_things_into(lab: Lab, tree: Path, short_tmp: Path) -> None:
    """A dash, an option, a pattern, a file that is there, a link, a place without a parent: nothing is lost."""
    daemon = lab.daemon("home", f"--share=s={tree}")
    here = short_tmp / "here"
    here.mkdir()
    (here / "file").write_bytes(b"mine")
    (here / "hanging").symlink_to("nowhere")
    assert "is written ./-" in get(lab, daemon, "/s/small", "-", cwd=here, code=2).text()
    get(lab, daemon, "/s/small", "-x", cwd=here, code=2)
    for place in ("file", "file/below", "none/below"):
        get(lab, daemon, "/s/small", place, cwd=here, code=3)
    get(lab, daemon, "/s/small", "hanging", cwd=here, code=3)
    assert sorted(os.listdir(here)) == ["file", "hanging"]
    assert (here / "file").read_bytes() == b"mine"
    for place in ("./-", "*", "a b\\"):
        get(lab, daemon, "/s/small", place, cwd=here)
        assert os.listdir(here / place) == ["small"]
    lab.client("get", "--", daemon.url + "/s/small", "-x", cwd=here).ends()
    assert os.listdir(here / "-x") == ["small"]
    daemon.clean_log()


def test_a_file_to_standard_output(lab: Lab, tree: Path, short_tmp: Path) -> None:
    """The content and nothing else; a folder, and a reader that goes away, are one sentence."""
    daemon = lab.daemon("home", f"--share=s={tree}", f"--share=one={tree / 'small'}")
    program = [sys.executable, "-m", "ftx", "--home", str(short_tmp / "home"), "get", "-o", "-"]
    for path, content in (("s/large", "large"), ("s/empty", "empty"), ("one", "small")):
        ran = subprocess.run([*program, f"{daemon.url}/{path}"], capture_output=True, timeout=60)
        assert (ran.returncode, ran.stdout) == (0, (tree / content).read_bytes()), ran.stderr
    ran = subprocess.run([*program, f"{daemon.url}/s/deep"], capture_output=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert b"only a single file" in ran.stderr
    with subprocess.Popen([*program, f"{daemon.url}/s/large"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as gone:
        assert gone.stdout is not None
        assert gone.stderr is not None
        gone.stdout.close()
        said = gone.stderr.read()
        assert said.count(b"ftx-client:") == said.count(b"nobody reads standard output") == 1
        assert gone.wait(60) == 3
    daemon.clean_log()


def test_a_huge_folder_is_listed_in_bounded_memory(lab: Lab, short_tmp: Path) -> None:
    """Thirty thousand names: all of them in order, and a reader that stops reading holds nothing up but itself."""
    wide = short_tmp / "wide"
    wide.mkdir()
    for number in range(30_000):
        (wide / f"{number:05}-{'n' * 60}").touch()
    daemon = lab.daemon("home", f"--share=s={wide}")
    before = daemon.memory()
    shown = [item["path"] for item in lab.client("ls", daemon.url + "/s").ends().events]
    assert shown == sorted(shown)
    assert len(shown) == 30_000
    words = [sys.executable, "-m", "ftx", "--home", str(short_tmp / "home"), "ls", daemon.url + "/s"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as slow:
        assert slow.stdout is not None
        assert slow.stdout.readline().startswith(b"00000-")
        slow.send_signal(signal.SIGSTOP)
        assert names(lab, daemon) == ["s"]
        slow.send_signal(signal.SIGCONT)
        slow.stdout.close()
        slow.wait(60)
    assert daemon.memory() - before < 24 * MIB
    daemon.clean_log()


def test_a_share_that_overlaps_the_inbox_has_to_be_meant(lab: Lab, short_tmp: Path) -> None:
    """Refused at the start with the way to say so; allowed when it was said."""
    inbox = short_tmp / "home" / "inbox"
    started = lab.client("id").ends()
    assert started.events
    words = [sys.executable, "-m", "ftx.daemon.main", "--home", str(short_tmp / "home"), f"--share=in={inbox}"]
    ran = subprocess.run(words, capture_output=True, timeout=60)
    assert ran.returncode == 1
    assert b"overlap" in ran.stderr
    assert b"with_inbox = true" in ran.stderr
    (short_tmp / "home" / "config.toml").write_text(f'[share.in]\npath = "{inbox}"\nwith_inbox = true\n')
    inbox.mkdir(mode=0o700)
    daemon = lab.daemon("home")
    make_tree(short_tmp / "sent", {"a": 5})
    lab.send(daemon, short_tmp / "sent")
    assert names(lab, daemon, "/in") == ["sent"]
    until(lambda: daemon.call("daemon.status")["shares"] == ["in"], "the share is in the status")


def test_who_asks_for_much_at_once_is_told_to_wait(lab: Lab, tree: Path) -> None:
    """Requests that are not gone on with hold descriptors: one key has so many, and the next may have its place."""
    daemon = lab.daemon("home", f"--share=photos={tree}")
    key = load(str(daemon.home / "identity.key"))

    def ask(there: Hostile) -> object:
        there.greet(features=["pull"])
        there.send(Request(os.urandom(16), [[b"photos"]], [], 0))
        return there.receive()

    with ExitStack() as all_of_them:
        held = [all_of_them.enter_context(Hostile(daemon.port, key)) for _ in range(limits.SERVED_PER_KEY)]
        assert {type(ask(there)) for there in held} == {Offer}
        with Hostile(daemon.port, key) as late:
            refused = ask(late)
            assert isinstance(refused, Refuse)
            assert refused.number == KINDS["busy"].number
            held[0].__exit__(None, None, None)
            until(lambda: daemon.call("daemon.status")["jobs"]["active"] < len(held), "one has gone", said=daemon)
            late.send(Request(os.urandom(16), [[b"photos"]], [], 0))
            assert isinstance(late.receive(), Offer)
    daemon.clean_log()


def test_a_destination_that_is_no_folder(lab: Lab) -> None:
    """It is looked at before anybody is asked: here nobody would answer."""
    (lab.root / "plain").write_bytes(b"content")
    for name, why in (("plain", "not a directory"), ("no/such", "no such file or directory")):
        client = lab.client("get", "ftx://127.0.0.1:9/music/a", str(lab.root / name), json=False)
        client.ends(3)
        assert why in client.text()
