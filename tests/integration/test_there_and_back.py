"""What a new user tries: a home folder with everything odd in it goes there through cuts, is edited, and comes back.

It is sent with the real programs, reset at moments drawn from a seed, sent again after edits to a tenth of its files,
and pulled back elsewhere. What must be there is found out by looking at the folder, without any of our own code. A
small folder belongs to the ordinary run; `make walk` takes a larger one, more cuts, and WALK_SEEDS seeds.
"""

from __future__ import annotations

import os
import random
import re
import signal
from pathlib import Path

import attrs
import pytest
from support.gate import Gate
from support.lab import NOBODY, Client, Daemon, Lab, until
from support.oddhome import Facts, OddHome, look

SEEDS = range(int(os.environ.get("WALK_SEEDS", "1")))
FILES = int(os.environ.get("WALK_FILES", "80"))
CUTS = int(os.environ.get("WALK_CUTS", "3"))
#: Bytes that a file with holes may take beyond what it took at the source: holes are kept by the page.
SLACK = 64 << 10

#: What a receiver must allow for such a folder, and what may replace what.
ALLOWED = ("--names", "any", "--links", "keep", "--conflict", "overwrite")
BACK = ("--links", "keep", "--names", "any")
WORDS = ("--links", "keep", "--conflict", "overwrite")

OPTIONS = [
    pytest.param(None, id="root"),
    pytest.param(NOBODY, id="user", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")),
]


@attrs.define(eq=False)
class Walk:
    """One walk: the folder that is sent, and both programs."""

    lab: Lab
    home: OddHome
    daemon: Daemon
    user: int | None
    where: str
    dice: random.Random

    def client(self, *words: str | bytes | Path) -> Client:
        """Start a client of this user."""
        plain = [os.fspath(word) for word in words]
        return self.lab.client(*plain, home=self.where, user=self.user, cwd=self.home.path.parent)

    def send(self, cuts: int) -> Client:
        """Send the folder, reset so often on the way."""
        total = sum(facts.size for facts in look(self.home.path).values())
        with Gate(self.daemon.port, hold=self._some(total)) as gate:
            client = self.client("send", "--to", gate.url, *WORDS, self.home.path)
            for _ in range(cuts):
                until(lambda: gate.held.is_set() or not client.alive, "a moment to cut", 60, said=client)
                gate.cut()
                gate.open(hold=self._some(total))
            gate.open()
            return client.ends(None)

    def _some(self, total: int) -> int:
        return self.dice.choice((1_000, 10_000, total // 8, total // 3)) + self.dice.randrange(20_000)

    def code(self) -> int:
        """How a run over the folder ends."""
        return 9 if self.home.unreadable else 0

    def holds(self, root: Path, wanted: dict[bytes, Facts]) -> None:
        """`root` is what is wanted, in each entry, and files with holes take no more place than they did."""
        found = look(root)
        differ = {path: (wanted.get(path), found.get(path)) for path in wanted.keys() | found.keys()}
        differ = {path: both for path, both in differ.items() if both[0] != both[1]}
        assert not differ, f"{len(differ)} differ (wanted, found): {dict(list(sorted(differ.items()))[:5])}"
        for path in self.home.sparse & found.keys():
            if not os.path.lexists(os.path.join(self.home.top, path)):
                continue  # it has another name here by now
            here, there = (os.stat(os.path.join(os.fsencode(top), path)).st_blocks for top in (self.home.path, root))
            assert there * 512 <= here * 512 + SLACK, path


def lost(before: dict[bytes, Facts], now: dict[bytes, Facts]) -> dict[bytes, Facts]:
    """What there was, with what there is now over it: a receiver takes nothing away."""
    return {**before, **now}


@pytest.mark.parametrize("user", OPTIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_there_and_back(seed: int, user: int | None, lab: Lab) -> None:
    """Everything that can be sent is there, byte for byte, with modes, times, holes and links; and again back."""
    top = lab.root / "mine"
    top.mkdir(mode=0o755)
    if user is not None:
        os.chown(top, user, user)
    home = OddHome(top / "old home", seed, FILES, user)
    daemon = lab.daemon("mine/ftx", *ALLOWED, user=user)
    walk = Walk(lab, home, daemon, user, "mine/ftx", random.Random(seed))
    first = home.expected()
    client = walk.send(CUTS)
    assert client.wait() == walk.code(), client.text()
    walk.holds(daemon.inbox / "old home", first)
    done = client.one("done")
    assert done["files_failed"] == len(home.unreadable)
    assert done["files_skipped"] == len(home.skipped)
    assert daemon.partials() == []
    edits = home.edit()
    second = home.expected()
    client = walk.send(CUTS)
    assert client.wait() == walk.code(), client.text()
    wanted = lost(first, second)
    walk.holds(daemon.inbox / "old home", wanted)
    changed = sum(len(edits[way]) for way in ("inside", "longer", "shorter", "renamed", "new", "touched"))
    done = client.one("done")
    # "twice" has two names: what changes under one changes under the other, too
    assert done["files"] - done["files_identical"] <= changed + 1, "changed permissions alone send no content"
    daemon.clean_log()
    pulled(walk, wanted)


def pulled(walk: Walk, wanted: dict[bytes, Facts]) -> None:
    """What the inbox has comes back from a share, cut on the way, with its links and untypable names."""
    inbox = walk.daemon.inbox
    walk.daemon.signal(signal.SIGTERM)
    walk.daemon.wait()
    config = walk.daemon.home / "config.toml"
    config.write_text(f'[share.back]\npath = "{inbox / "old home"}"\nwith_inbox = true\n', "utf-8")
    if walk.user is not None:
        os.chown(config, walk.user, walk.user)
    config.chmod(0o600)
    daemon = walk.lab.daemon(walk.where, *ALLOWED, user=walk.user)
    with Gate(daemon.port) as gate:
        client = walk.client("get", f"{gate.url}/back", "elsewhere", *BACK)
        for _ in range(CUTS):
            files = len(client.of("file"))
            until(lambda files=files: len(client.of("file")) > files + 10 or not client.alive, "some files")  # type: ignore[misc]
            gate.cut()
        client.ends(None, 120)
    assert client.wait() == 0, client.text()
    assert client.one("done")["files_skipped"] == 0
    walk.holds(walk.home.path.parent / "elsewhere" / "back", wanted)
    again = walk.client("get", f"{daemon.url}/back", "elsewhere", *BACK).ends(0).one("done")
    assert (again["files_identical"], again["bytes_wire"]) == (again["files"], 0)
    # what a get does not take unasked fails and says so: names with control characters, and links are left out
    odd = {path for path in wanted if re.search(rb"[\x00-\x1f]", path)}
    usual = walk.client("get", f"{daemon.url}/back", "elsewhere").ends(9)
    failed = [event for event in usual.of("file") if event["status"] == "failed"]
    assert {event["error"]["name"] for event in failed} == {"bad-name"}
    assert usual.one("done")["files_failed"] == len(odd) == 2
    links = {path for path, facts in wanted.items() if facts.mode == "link"}
    assert usual.one("done")["files_skipped"] == len(links)
    daemon.clean_log()
