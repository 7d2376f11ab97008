"""What a sender chooses: what is left out, what becomes of links, who gives way when a name is taken."""

from __future__ import annotations

import os

from support.lab import Lab
from support.trees import MiB, make_tree, snapshot, visible


def test_patterns_leave_out(lab: Lab) -> None:
    """What is left out is no file, no byte, and not worth a word; the exit code is that of success."""
    make_tree(lab.root / "source", {"a.c": 3, "a.o": 5, "build/x": 7, "sub/build": 11, "sub/keep.o": 13})
    daemon = lab.daemon()
    patterns = ["--exclude", "*.o", "--exclude", "/build", "--exclude", "!keep.o"]
    client = lab.send(daemon, *patterns, "source")
    done = client.one("done")
    assert (done["files"], done["directories"], done["bytes"], done["files_skipped"]) == (3, 2, 27, 0)
    assert client.of("progress")[-1]["files_total"] == 3
    assert sorted(visible(daemon.inbox)) == [b"source/a.c", b"source/sub/build", b"source/sub/keep.o"]
    wrong = lab.client("send", "source", "x:", "--exclude", "!", json=False)
    assert wrong.wait() == 2
    assert "'!' is not a pattern" in wrong.text()
    assert "Traceback" not in wrong.text()


def test_links_are_followed_on_request(lab: Lab) -> None:
    """What they lead to is sent in their place; one that leads nowhere fails, alone: exit 9."""
    make_tree(lab.root / "outside", {"large": 2 * MiB + 1, "small": 5})
    source = lab.root / "source"
    make_tree(source, {"a": 3})
    (source / "large").symlink_to("../outside/large")
    (source / "folder").symlink_to("../outside")
    (source / "round").symlink_to(".")
    daemon = lab.daemon()
    skipped = lab.send(daemon, "source").one("done")
    assert (skipped["files"], skipped["files_skipped"]) == (1, 3)
    followed = lab.send(daemon, "--links", "follow", "source").one("done")
    assert (followed["files"], followed["files_identical"], followed["files_skipped"]) == (4, 1, 1)
    there = snapshot(daemon.inbox / "source")
    assert there[b"folder/small"] == snapshot(lab.root / "outside")[b"small"]
    assert there[b"large"] == there[b"folder/large"] == snapshot(lab.root / "outside")[b"large"]
    (source / "gone").symlink_to("nowhere")
    partial = lab.send(daemon, "--links", "follow", "source", code=9)
    failed = [event for event in partial.of("file") if event["status"] == "failed"]
    assert [(event["path"], event["error"]["name"]) for event in failed] == [("source/gone", "source-missing")]
    daemon.clean_log()


def test_the_operator_allows_and_the_sender_wishes(lab: Lab) -> None:
    """backup and overwrite: where the ceiling is lower they are refused at the offer; else each does what it says."""
    make_tree(lab.root / "one", {"x/large": 2 * MiB, "x/small": 10, "x/same": 20}, seed=1)
    make_tree(lab.root / "two", {"x/large": 2 * MiB, "x/small": 11, "x/new": 5}, seed=2)
    os.utime(lab.root / "two" / "x" / "large", ns=(1, 1_700_000_000_000_000_001))
    daemon = lab.daemon()
    assert lab.send(daemon, "--conflict", "backup", "one/x", code=6).failure()["name"] == "refused"
    daemon.kill()
    daemon = lab.daemon("home", "--conflict", "backup")
    lab.send(daemon, "one/x")
    assert lab.send(daemon, "--conflict", "overwrite", "two/x", code=6).failure()["name"] == "refused"
    before = snapshot(daemon.inbox / "x")
    stored = lab.send(daemon, "two/x").of("file")
    assert {event["path"]: event["stored_as"] for event in stored} == {
        name: name for name in ("x/large", "x/new", "x/small")
    }
    after = snapshot(daemon.inbox / "x")
    sent = snapshot(lab.root / "two" / "x")
    assert {name: after[name] for name in (b"large", b"small", b"new")} == {
        name: sent[name] for name in (b"large", b"small", b"new")
    }
    assert (after[b"large.~1~"], after[b"small.~1~"]) == (before[b"large"], before[b"small"])
    daemon.kill()
    daemon = lab.daemon("home", "--conflict", "overwrite")
    third = lab.send(daemon, "one/x").one("done")
    assert (third["files"], third["files_identical"]) == (3, 1)
    assert snapshot(daemon.inbox / "x")[b"large"] == before[b"large"]
    assert snapshot(daemon.inbox / "x")[b"large.~1~"] == before[b"large"]
    assert b"large.~2~" not in snapshot(daemon.inbox / "x")
    daemon.clean_log()


def test_links_are_kept_where_the_operator_lets_them_in(lab: Lab) -> None:
    """Else each is a failed file that says why; those that lead out are skipped. Sent twice, they are identical."""
    source = lab.root / "source"
    make_tree(source, {"a": 3, "d/large": 2 * MiB + 1})
    for name, target in {"l": "a", "d/up": "../a", "gone": "nowhere", "out": "../x", "abs": "/etc/passwd"}.items():
        (source / name).symlink_to(target)
    stamp = 1_600_000_000_000_000_007
    os.utime(source / "l", ns=(stamp, stamp), follow_symlinks=False)
    os.utime(source / "d", ns=(stamp, stamp))
    daemon = lab.daemon()
    refused = lab.send(daemon, "--links", "keep", "source", code=9)
    failed = {event["path"]: event["error"]["name"] for event in refused.of("file") if event["status"] == "failed"}
    assert failed == dict.fromkeys(("source/l", "source/d/up", "source/gone"), "not-supported")
    daemon.kill()
    daemon = lab.daemon("home", "--links", "keep")
    kept = lab.send(daemon, "--links", "keep", "source")
    done = kept.one("done")
    assert (done["files"], done["files_identical"], done["files_skipped"], done["files_failed"]) == (5, 2, 2, 0)
    assert kept.of("progress")[-1]["files_total"] == 5
    inbox = daemon.inbox / "source"
    assert {name: os.readlink(inbox / name) for name in ("l", "d/up", "gone")} == {
        "l": "a", "d/up": "../a", "gone": "nowhere",
    }  # fmt: skip
    assert not os.path.lexists(inbox / "out")
    assert not os.path.lexists(inbox / "abs")
    assert (inbox / "l").lstat().st_mtime_ns == (inbox / "d").stat().st_mtime_ns == stamp
    again = lab.send(daemon, "--links", "keep", "source").one("done")
    assert (again["files"], again["files_identical"], again["bytes_wire"]) == (5, 5, 0)
    daemon.clean_log()


def test_a_dry_run_says_what_a_run_would_do(lab: Lab) -> None:
    """And changes nothing; the real run then does just that."""
    source = lab.root / "source"
    make_tree(source, {"a": 3, "b/large": 2 * MiB + 1, "b/small": 5})
    daemon = lab.daemon("home", "--conflict", "fail")
    lab.send(daemon, "--exclude", "b", "source")
    (daemon.inbox / "source" / "b").mkdir()
    (daemon.inbox / "source" / "b" / "small").write_bytes(b"mine")
    before = snapshot(daemon.inbox / "source")
    dry = lab.send(daemon, "--dry-run", "source", code=9)
    done = dry.one("done")
    assert (done["dry_run"], done["files_wanted"], done["bytes_wanted"]) == (True, 1, 2 * MiB + 1)
    assert (done["files"], done["files_identical"], done["files_failed"], done["files_skipped"]) == (1, 1, 1, 0)
    assert (done["bytes_wire"], done["receipt"]) == (0, None)
    assert {event["path"]: event["status"] for event in dry.of("file")} == {
        "source/a": "identical", "source/b/large": "wanted", "source/b/small": "failed",
    }  # fmt: skip
    assert snapshot(daemon.inbox / "source") == before
    assert daemon.partials() == []
    plain = lab.client("send", "--to", daemon.url, "--dry-run", "source", json=False)
    assert plain.wait() == 9
    listed, last = plain.out.read_text().splitlines()
    assert listed == "source/b/large"
    assert last.startswith("would send 1 file, 2.0 MiB to")
    real = lab.send(daemon, "source", code=9).one("done")
    assert (real["files"], real["files_identical"], real["files_failed"]) == (2, 1, 1)
    daemon.clean_log()


def test_odd_names_come_in_where_the_operator_accepts_any(lab: Lab) -> None:
    """Newlines and escapes, bytes that are no UTF-8, 255 bytes, a dot at the top: each arrives as it is."""
    names = [b"two\nlines", b"\x1b[31mred", b"\xff\xfe", b"x" * 255, b".profile", b" ", b"a\\b", b"%41"]
    source = lab.root / "source"
    make_tree(source, {name: 5 for name in names})
    (lab.root / ".top").write_bytes(b"dot")
    daemon = lab.daemon()
    refused = lab.send(daemon, "source", ".top", code=9)
    failed = {event["path"] for event in refused.of("file") if event["status"] == "failed"}
    assert failed == {"source/two\nlines", "source/\x1b[31mred", ".top"}
    daemon.kill()
    daemon = lab.daemon("home", "--names", "any")
    assert lab.send(daemon, "source", ".top").one("done")["files"] == len(names) + 1
    assert snapshot(daemon.inbox / "source") == snapshot(source)
    assert (daemon.inbox / ".top").read_bytes() == b"dot"
    daemon.clean_log()
