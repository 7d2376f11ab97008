"""`receive`: a receiver for one time, without a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Client, Lab, until

from ftx.disk.peers import load

LOOPBACK = {"FTX_LISTEN": "tcp:0:interface=127.0.0.1", "FTX_NO_DISCOVERY": "true"}


@pytest.fixture
def lab(short_tmp: Path) -> Iterator[Lab]:
    """A laboratory."""
    with Lab(short_tmp) as made:
        yield made


def receiving(lab: Lab, *words: str) -> tuple[Client, str, str]:
    """A receiver that is ready, its code, and how to reach it."""
    client = lab.client("receive", *words, home="receiver", environ=LOOPBACK)
    until(lambda: "ends this" in client.text() or not client.alive, "a code, and how to reach it", said=client)
    codes = [one["code"] for one in client.events if "code" in one]
    assert codes, client.text()
    [target] = {word for word in client.text().split() if word.startswith("ftx://")}
    return client, str(codes[0]), target


def test_a_code_a_file_and_the_end(lab: Lab) -> None:
    """What comes lies in the folder; who sent it is not paired for good; nothing is left running."""
    (lab.root / "a").write_bytes(b"1")
    client, code, target = receiving(lab, "here", "--once")
    lab.client("pair", target, "--name", "attic", home="sender", environ={"FTX_CODE": code}).ends()
    lab.client("send", "a", "--to", target, home="sender").ends()
    client.ends()
    assert (lab.root / "here" / "a").read_bytes() == b"1"
    assert client.one("done")["files"] == 1
    assert load(lab.places("receiver").peers).peers == ()
    lab.client("send", "a", "attic:", home="sender").ends(4)
    assert not (lab.root / "receiver" / "run" / "control.sock").exists()


def test_a_code_that_is_used_up_is_followed_by_another(lab: Lab) -> None:
    """Ctrl-C ends the receiver and its daemon; who has paired stays so where that was asked for."""
    client, code, target = receiving(lab, "--keep")
    wrong = f"{code[0]}-acorn-{'adobe' if not code.endswith('adobe') else 'agate'}"
    lab.client("pair", target, home="sender", environ={"FTX_CODE": wrong}).ends(5)
    until(lambda: len([one for one in client.events if "code" in one]) == 2, "another code", said=client)
    second = [one["code"] for one in client.events if "code" in one][1]
    lab.client("pair", target, home="sender", environ={"FTX_CODE": second}).ends()
    # The sender hears of it first: whoever ends the receiver has seen there that somebody is paired.
    until(lambda: any(one.get("state") == "paired" for one in client.events), "it says so here, too", said=client)
    client.signal(2)
    client.ends(130)
    assert [one.id for one in load(lab.places("receiver").peers).peers] == [lab.key("sender").id]
    until(lambda: not (lab.root / "receiver" / "run" / "control.sock").exists(), "the daemon has ended")


def test_where_a_daemon_runs(lab: Lab) -> None:
    """It is the one that receives, and the way to a code for it is told."""
    lab.daemon("receiver")
    refused = lab.client("receive", home="receiver", environ=LOOPBACK).ends(1)
    assert "ftx-client pair --open" in refused.text()


def test_what_keeps_the_daemon_from_starting(lab: Lab) -> None:
    """Its sentence is told, and its hint: the options of `receive` are others."""
    (lab.root / "here").mkdir()
    (lab.root / "here" / ".ftx").write_bytes(b"")
    text = lab.client("receive", "here", home="receiver", environ=LOOPBACK).ends(1).text()
    assert "cannot be used: not a directory" in text
    assert "hint: check that it is a folder of yours and writable" in text
