"""Rights and rules in a running daemon: they count as soon as the file says so, and each decision is in the log."""

from __future__ import annotations

from pathlib import Path

from support.lab import Daemon, Lab, until
from support.trees import make_tree, visible


def _configure(daemon: Daemon, text: str) -> None:
    """Write the configuration, and wait until the daemon has read it."""
    before = daemon.text().count("rights and rules were read again")
    (daemon.home / "config.toml").write_text(text)
    until(lambda: daemon.text().count("rights and rules were read again") > before, "the rules are read", said=daemon)


def _paired(lab: Lab) -> tuple[Daemon, str]:
    daemon = lab.daemon("receiver")
    lab.pair("receiver", "sender", "desk")
    lab.pair("sender", "receiver", "attic")
    return daemon, lab.identity("sender")


def test_rights_count_at_once(lab: Lab) -> None:
    """A folder, a quota, a size, and no right at all: each without a reload, and gone when the table is gone."""
    daemon, sender = _paired(lab)
    make_tree(lab.root / "tree", {"a": 10, "b": 10, "c": 10_000})
    _configure(daemon, f'[peer.desk]\nid = "{sender}"\nfolder = "from/{{peer}}"\nfile_size = "1K"\nfiles_per_day = 1\n')
    client = lab.send(daemon, "tree", home="sender", code=9)
    assert [(one["path"], one["error"]["name"]) for one in client.of("file") if one["status"] == "failed"] == [
        ("tree/b", "quota"),
        ("tree/c", "too-large"),
    ]
    assert list(visible(daemon.inbox)) == [b"from/desk/tree/a"]
    assert daemon.call("jobs.list")["jobs"][0]["path"] == "from/desk"
    until(lambda: "1 file refused: larger than" in daemon.text(), "the log says who refused", said=daemon)
    _configure(daemon, f'[peer.desk]\nid = "{sender}"\npush = false\n')
    refused = lab.send(daemon, "tree", home="sender", code=5)
    assert refused.failure()["name"] == "not-authorised"
    _configure(daemon, "")
    lab.send(daemon, "tree/c", home="sender")
    assert (Path(daemon.inbox) / "c").stat().st_size == 10_000


def test_rules_decide_file_by_file(lab: Lab) -> None:
    """Each file is judged by itself; a conflict rule and a folder are the offer's; a wrong file changes nothing."""
    daemon, _ = _paired(lab)
    make_tree(lab.root / "tree", {"a.txt": 10, "setup.exe": 10})
    _configure(
        daemon,
        """
        [[rule]]
        title = "no programs"
        name = "*.exe"
        action = "refuse"
        reason = "mail them"
        [[rule]]
        peer = "desk"
        address = "127.0.0.0/8"
        action = "accept"
        folder = "{date}"
        conflict = "skip"
        """,
    )
    client = lab.send(daemon, "tree", home="sender", code=9)
    assert [one["error"]["name"] for one in client.of("file") if one["status"] == "failed"] == ["refused"]
    assert [path.count(b"/") for path in visible(daemon.inbox)] == [2]
    until(lambda: "1 file refused: no programs: mail them" in daemon.text(), "the log says who refused", said=daemon)
    assert "accepted: rule 2" in daemon.text()
    wish = lab.send(daemon, "tree", "--conflict", "rename", home="sender", code=6)
    assert wish.failure()["name"] == "refused"
    (daemon.home / "config.toml").write_text("[[rule]]\nnaem = '*'\n")
    until(lambda: "is wrong, the old one stays" in daemon.text(), "the log says what is wrong", said=daemon)
    assert lab.send(daemon, "tree", home="sender", code=9).one("done")["files_identical"] == 1


def test_what_the_rules_would_decide(lab: Lab) -> None:
    """`policy test` says the very same, with the rule that decides, and needs neither daemon nor network."""
    lab.pair("receiver", "sender", "desk")
    (lab.root / "receiver" / "config.toml").write_text(
        """
        [[rule]]
        title = "small things"
        peer = "desk"
        smaller = "1G"
        action = "accept"
        [[rule]]
        action = "refuse"
        reason = "too much"
        """
    )
    args = ("policy", "test", "--peer", "desk", "--address", "192.0.2.7")
    small = lab.client(*args, "--size", "4M", "a/b.txt", home="receiver").ends()
    assert [(one["name"], one["action"], one["rule"]) for one in small.events] == [
        (None, "accept", None),
        ("a/b.txt", "accept", "small things"),
    ]
    large = lab.client(*args, "--size", "4G", "a/b.txt", home="receiver").ends(6)
    assert (large.events[1]["action"], large.events[1]["why"]) == ("refuse", "rule 2: too much")
    unknown = lab.client("policy", "test", "--peer", "@unknown", "x", home="receiver").ends(5)
    assert unknown.events[0]["error"] == "untrusted"
    lab.client("policy", "test", "--peer", "dsk", "x", home="receiver").ends(2)
    lab.client("policy", "test", "--peer", "desk", "--at", "25:00", "x", home="receiver").ends(2)
