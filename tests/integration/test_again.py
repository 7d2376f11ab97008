"""Sending again: what is there is found, what changed gets a name of its own once, what must not happen is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.lab import Lab
from support.trees import MiB, make_tree, snapshot, visible


def change(path: Path, content: bytes) -> None:
    """Other content, and so another mtime."""
    path.write_bytes(content)
    os.utime(path, ns=(1, 1_700_000_000_000_000_001))


def test_twice_is_identical_and_costs_nothing(lab: Lab) -> None:
    """The second run sends no content and says so; the tree stays what it is, and the daemon stores nothing."""
    total = make_tree(lab.root / "source", {"a": 10, "b/c": 3 * MiB + 5, "b/empty": 0, "d": MiB})
    daemon = lab.daemon()
    lab.send(daemon, "source")
    before = snapshot(daemon.inbox / "source")
    second = lab.send(daemon, "source")
    done = second.one("done")
    assert (done["files"], done["files_identical"], done["bytes"], done["bytes_wire"]) == (4, 4, total, 0)
    assert {event["status"] for event in second.of("file")} == {"identical"}
    assert all(event["digest"] for event in second.of("file"))
    assert snapshot(daemon.inbox / "source") == before
    assert daemon.call("daemon.status")["bytes_in"] == total
    # and by another daemon process, from what is on the disk alone
    daemon.kill()
    third = lab.send(lab.again(daemon), "source").one("done")
    assert (third["files_identical"], third["bytes_wire"]) == (4, 0)


def test_a_time_beyond_what_is_held_becomes_the_nearest(lab: Lab) -> None:
    """Beyond what travels, and before what a file system has: the file arrives, and is known the next time."""
    make_tree(lab.root / "source", {"late": 10, "early": 11})
    os.utime(lab.root / "source" / "late", (16_725_225_600, 16_725_225_600))  # the year 2500
    os.utime(lab.root / "source" / "early", (-9_000_000_000, -9_000_000_000))  # 1684
    late, early = ((lab.root / "source" / name).stat().st_mtime_ns for name in ("late", "early"))
    daemon = lab.daemon()
    lab.send(daemon, "source")
    kept = daemon.inbox / "source"
    assert (kept / "late").stat().st_mtime_ns <= min(late, 2**63 - 1)
    assert (kept / "late").stat().st_mtime_ns > 4_000_000_000 * 10**9 or late < 2**63
    assert (kept / "early").stat().st_mtime_ns >= early
    done = lab.send(daemon, "source").one("done")
    assert (done["files_identical"], done["bytes_wire"]) == (2, 0)


def test_by_content_whatever_the_time(lab: Lab) -> None:
    """--checksum finds touched files, and files that this user put there some other way; nothing travels."""
    make_tree(lab.root / "source", {"a": 10, "b/c": 3 * MiB + 5})
    daemon = lab.daemon()
    lab.send(daemon, "source")
    for name in ("a", "b/c"):
        os.utime(lab.root / "source" / name, ns=(1, 1_700_000_000_000_000_001))
    (lab.root / "source" / "d").write_bytes(b"copied by hand")
    (daemon.inbox / "source" / "d").write_bytes(b"copied by hand")
    before = snapshot(daemon.inbox / "source")
    done = lab.send(daemon, "--checksum", "source").one("done")
    assert (done["files_identical"], done["bytes_wire"]) == (3, 0)
    after = snapshot(daemon.inbox / "source")
    assert after | {b".": before[b"."]} == before  # the folder alone has the time that the source's has now
    assert lab.send(daemon, "source").one("done")["files_identical"] == 3


def test_a_receipt_is_verified_later(lab: Lab) -> None:
    """Here beside the sources and there in the inbox; what changed since is listed, and a forgery refused."""
    make_tree(lab.root / "source", {"a": 10, "large": 3 * MiB + 5})
    daemon = lab.daemon()
    lab.send(daemon, "--receipt", "proof", "source")
    for folder in (daemon.inbox, lab.root):
        *files, last = lab.client("verify", "proof", "--root", folder).ends().events
        assert [file["status"] for file in files] == ["ok"] * 3
        assert (last["files"], last["checked"], last["wrong"], last["peer"]["name"]) == (2, 3, 0, "me")
    (daemon.inbox / "source" / "a").write_bytes(b"0123456789")
    (daemon.inbox / "source" / "large").unlink()
    shown = lab.client("verify", "proof", "--root", daemon.inbox, json=False).ends(9)
    assert sorted(line.split(":")[0] for line in shown.out.read_text().splitlines()) == [
        "failed  source/a",
        "missing  source/large",
    ]
    assert lab.client("verify", "proof").ends().events[0]["checked"] is None
    proof = lab.root / "proof"
    proof.write_bytes(proof.read_bytes().replace(b"stored 10", b"stored 11"))
    assert b"are not those that were signed" in lab.client("verify", "proof").ends(7).err.read_bytes()
    lab.client("verify", "none").ends(3)


def test_permissions_alone_go_along(lab: Lab) -> None:
    """chmod on one side, and the same command: the other side has them too, both ways, and no content travels."""
    make_tree(lab.root / "source", {"a": 10, "large": 3 * MiB + 5})
    daemon = lab.daemon("home", f"--share=s={lab.root / 'source'}")
    copies = (daemon.inbox / "source", lab.root / "back" / "s")
    for mode in (0o644, 0o755, 0o600):
        for name in ("a", "large"):
            (lab.root / "source" / name).chmod(mode)
        ran = lab.send(daemon, "source"), lab.client("get", f"{daemon.url}/s", "back").ends()
        assert {path.stat().st_mode & 0o7777 for copy in copies for path in copy.iterdir()} == {mode}
        assert mode == 0o644 or [client.one("done")["bytes_wire"] for client in ran] == [0, 0]


def test_a_changed_file_gets_one_other_name(lab: Lab) -> None:
    """`a (1).txt` beside `a.txt`; sent again it is found as its own; a third content is `a (2).txt`."""
    make_tree(lab.root / "source", {"a.txt": 10, "large": 2 * MiB + 1})
    daemon = lab.daemon()
    lab.send(daemon, "source")
    first = (daemon.inbox / "source" / "a.txt").read_bytes()
    for round_, content in enumerate((b"second", b"third one"), 1):
        change(lab.root / "source" / "a.txt", content)
        for expected, wire in (("stored", len(content)), ("identical", 0)):
            client = lab.send(daemon, "source")
            event = next(event for event in client.of("file") if event["path"] == "source/a.txt")
            assert event["stored_as"] == f"source/a ({round_}).txt"
            assert event["status"] == expected
            assert client.one("done")["bytes_wire"] == wire
        assert (daemon.inbox / "source" / f"a ({round_}).txt").read_bytes() == content
    assert (daemon.inbox / "source" / "a.txt").read_bytes() == first
    assert len(visible(daemon.inbox)) == 4


def test_the_wishes_of_a_sender(lab: Lab) -> None:
    """fail: exit 6 and `exists`; skip: success without a copy; mixed: exit 9; identical is none of it."""
    make_tree(lab.root / "source", {"same": 10, "other": 20})
    daemon = lab.daemon()
    lab.send(daemon, "source")
    before = snapshot(daemon.inbox)
    change(lab.root / "source" / "other", b"changed")
    mixed = lab.send(daemon, "--conflict", "fail", "source", code=9)
    failed = [event for event in mixed.of("file") if event["status"] == "failed"]
    assert [(event["path"], event["error"]["name"], event["error"]["code"]) for event in failed] == [
        ("source/other", "exists", 607)
    ]
    assert mixed.one("done")["result"] == "partial"
    assert mixed.one("done")["files_identical"] == 1
    only = lab.send(daemon, "--conflict", "fail", "--into", "source", "source/other", code=6)
    assert only.one("summary")["exit"] == 6
    skipped = lab.send(daemon, "--conflict", "skip", "source").one("done")
    assert (skipped["files_skipped"], skipped["files_identical"], skipped["files_failed"]) == (1, 1, 0)
    after = snapshot(daemon.inbox)
    # `.ftx` changes; the rest does not
    assert {k: v for k, v in before.items() if b".ftx" not in k and k != b"."} == {
        k: v for k, v in after.items() if b".ftx" not in k and k != b"."
    }


def test_a_wish_above_the_ceiling_is_refused(lab: Lab) -> None:
    """The receiver's rule is the most that a sender may wish: refused at the offer, nothing is made."""
    (lab.root / "a").write_bytes(b"1")
    daemon = lab.daemon("home", "--conflict", "fail")
    client = lab.send(daemon, "--conflict", "rename", "a", code=6)
    assert client.failure()["name"] == "refused"
    assert client.one("refused")["error"]["code"] == 601
    assert client.one("failed")["resumable"] is False
    assert visible(daemon.inbox) == {}
    assert "hint" in client.text() or "refuse" in client.text()


@pytest.mark.case("D76")
def test_a_file_against_a_folder(lab: Lab) -> None:
    """A file never takes a folder's place, nor a folder a file's; folders of one name merge."""
    make_tree(lab.root / "one" / "x", {"a": 1})
    make_tree(lab.root / "two" / "x", {"b": 2})
    (lab.root / "three").mkdir()
    (lab.root / "three" / "x").write_bytes(b"file")
    daemon = lab.daemon("home", "--conflict", "fail")
    lab.send(daemon, "one/x")
    lab.send(daemon, "two/x")
    assert sorted(visible(daemon.inbox)) == [b"x/a", b"x/b"]
    assert lab.send(daemon, "three/x", code=6).of("file")[0]["error"]["name"] == "exists"
    lab.send(daemon, "--into", "y", "three/x")
    refused = lab.send(daemon, "--into", "y", "one/x", code=6)
    assert {event["error"]["name"] for event in refused.of("file")} == {"exists"}
    assert sorted(visible(daemon.inbox)) == [b"x/a", b"x/b", b"y/x"]


@pytest.mark.case("D84")
def test_a_file_that_was_removed_or_altered_there_is_sent_again(lab: Lab) -> None:
    """A record whose file is gone or was changed counts for nothing."""
    make_tree(lab.root / "source", {"a": 10, "b": 20})
    daemon = lab.daemon()
    lab.send(daemon, "source")
    (daemon.inbox / "source" / "a").unlink()
    (daemon.inbox / "source" / "b").chmod(0o644)
    (daemon.inbox / "source" / "b").write_bytes(b"the user's own work")
    client = lab.send(daemon, "source")
    assert {event["path"]: event["stored_as"] for event in client.of("file")} == {
        "source/a": "source/a",
        "source/b": "source/b (1)",
    }
    assert (daemon.inbox / "source" / "b").read_bytes() == b"the user's own work"
