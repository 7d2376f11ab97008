"""Hooks of a running daemon: the example, names that would like to be commands, a reload, and the end."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from support.lab import Lab, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "hook_list.py"
NAMES = [b"$(touch pwned)", b"a'b\"c`touch pwned`", b"; touch pwned;", b"\xff\xfe\xfd", b"x" * 255]


def configure(lab: Lab, text: str) -> None:
    lab.key("home")  # makes the folder
    (lab.root / "home" / "config.toml").write_text(text, "utf-8")


def test_what_was_received_is_told_to_a_program(lab: Lab) -> None:
    """The hook gets every name exactly; no name is more than content; a reload changes the hooks."""
    program = json.dumps([sys.executable, str(EXAMPLE)])
    configure(lab, f'[hook.list]\non = "received"\ncommand = {program}\nenvironment = {{ LIST = "list" }}\n')
    daemon = lab.daemon()
    source = lab.root / "source"
    source.mkdir()
    for name in NAMES:
        (source / os.fsdecode(name)).write_bytes(name)
    lab.send(daemon, source)
    listed = daemon.home / "state" / "hooks" / "list" / "list"
    until(lambda: listed.exists() and listed.read_text("utf-8").count("\n") == len(NAMES), "the list", said=daemon)
    rows = [line.split("\t") for line in listed.read_text("utf-8").splitlines()]
    assert all(row[4] == "True" for row in rows)
    shown = {json.loads(row[3]) for row in rows}
    assert shown == {f"source/{name.decode('utf-8', 'replace')}" for name in NAMES}
    assert os.listdir(listed.parent) == ["list"]
    assert list(lab.root.rglob("pwned")) == []

    configure(lab, '[hook.bad]\non = "received"\ncommand = ["/bin/sh", "-c", "echo why >&2; exit 3"]\n')
    daemon.call("daemon.reload")
    (source / "more").touch()
    lab.send(daemon, source)
    until(lambda: "hook bad failed: it ended with exit code 3: why" in daemon.text(), "a complaint", said=daemon)
    assert len(listed.read_text("utf-8").splitlines()) == len(NAMES)
    configure(lab, "[hook.bad]\n")
    daemon.signal(signal.SIGHUP)
    until(lambda: "[hook.bad]" in daemon.text() and "on is missing" in daemon.text(), "a sentence", said=daemon)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    daemon.clean_log()
