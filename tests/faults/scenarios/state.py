"""What ftx keeps for itself: the key, the known peers, the configuration, records, quotas, the account of a day."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from faults.model import Scenario, UnreadyError
from faults.page import Fault
from faults.scenarios.sending import SMALL, Sending, names_of
from faults.stage import Bench, Stage
from support.lab import until
from support.trees import MiB

from ftx.limits import PARTIAL_DAYS

#: Another identity, as `peers add` takes it: that of a key which nobody has any more.
STRANGER_HOME = "stranger"


class _Own(Scenario):
    """Nothing is received: what is looked at is what ftx keeps."""

    victims = ("client",)
    connects = False

    def place(self, stage: Stage) -> Path:
        return stage.root / "nothing comes here"

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {}


class Identity(_Own):
    """The key is made, by the first command that needs one."""

    name, about = "identity", "the identity key is made"

    def act(self, stage: Stage) -> int:
        return stage.run("id").wait()

    def after(self, stage: Stage) -> None:
        shown = {client.events[0]["id"] for client in stage.clients if client.events}
        assert len(shown) == 1, f"the key has changed after it was shown: {shown}"
        key = stage.home / "identity.key"
        assert key.stat().st_mode & 0o777 == 0o600
        assert sorted(path.name for path in stage.home.iterdir() if path.is_file()) == ["identity.key"], "left behind"


class FirstStart(_Own):
    """The daemon starts for the first time: key, folders, records, sockets; then something is sent to it."""

    name, about = "first-start", "the daemon makes its home, its key, its inbox and its records"
    victims = ("daemon",)
    from_start = True

    def prepare(self, bench: Bench) -> None:
        bench.source(self.name, {"a": 10})

    def act(self, stage: Stage) -> int:
        try:
            stage.up()
        except AssertionError:
            if stage.pages["daemon"].struck:
                return -9
            raise
        return stage.send(stage.bench.source(self.name, {"a": 10})).wait()

    def place(self, stage: Stage) -> Path:
        return stage.inbox

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        tree = stage.bench.tree(stage.bench.source(self.name, {}))
        return {b"first-start/a": frozenset([str(tree[b"a"][3])])}

    def after(self, stage: Stage) -> None:
        assert names_of(stage.inbox) == [self.name]


class Peers(_Own):
    """The file of known peers is changed: one is there, another is added, renamed or removed."""

    def __init__(self, name: str, about: str, *words: str) -> None:
        self.name, self.about, self.words = name, about, words

    def before(self, stage: Stage) -> None:
        for home in ("first", "second"):
            stage.identity(home)
        stage.pair("home", "first", "kept", "192.0.2.7:7389")
        if self.words[0] != "add":
            stage.pair("home", "second", "changing")

    def act(self, stage: Stage) -> int:
        if self.words[0] != "add" and self.done(stage):
            return 0  # it was done before the fault: there is nothing left to rename or remove
        words = [stage.identity("second") if word == "ID" else word for word in self.words]
        return stage.run("peers", *words).wait()

    def _listed(self, stage: Stage) -> dict[str, str]:
        found = stage.client("peers", "list").ends()
        return {event["name"]: event["id"] for event in found.events if "name" in event}

    def done(self, stage: Stage) -> bool:
        """Whether it is as it should be."""
        wanted = {"kept": stage.identity("first")}
        if self.words[0] != "remove":
            wanted[self.words[-1] if self.words[0] == "rename" else self.words[1]] = stage.identity("second")
        return self._listed(stage) == wanted

    def after(self, stage: Stage) -> None:
        assert self.done(stage), self._listed(stage)
        found = sorted(path.name for path in stage.home.iterdir() if path.is_file())
        left = [name for name in found if name not in ("identity.key", "peers.toml", "peers.toml.lock", "peers.lock")]
        assert not left, f"left behind: {left}"


class Pairing(_Own):
    """Two machines pair by a code: each writes the other down."""

    name, about = "pairing", "two machines pair by a code"
    victims = ("daemon", "client")
    connects = True

    def before(self, stage: Stage) -> None:
        stage.up("--name", "attic")

    def act(self, stage: Stage) -> int:
        if stage.running is None:
            raise RuntimeError("no daemon")
        showing = stage.client("pair", "--open")
        until(lambda: any("code" in one for one in showing.events) or not showing.alive, "a code", said=showing)
        codes = [one["code"] for one in showing.events if "code" in one]
        if not codes:
            return showing.wait()
        code = stage.run("pair", stage.url, "--retries", "0", home="other", environ={"FTX_CODE": codes[0]}).wait()
        if code:
            if stage.running.alive:
                stage.running.ask('{"jsonrpc":"2.0","id":1,"method":"pairing.close","params":{}}')
            showing.wait()
            return code
        return showing.wait()

    def after(self, stage: Stage) -> None:
        ids = {home: stage.identity(home) for home in ("home", "other")}
        for home, other in (("home", "other"), ("other", "home")):
            listed = [one["id"] for one in stage.client("peers", "list", home=home).ends().events if "id" in one]
            assert listed == [ids[other]], f"{home} knows {listed}"


class PairedSend(Sending):
    """The first transfer to a peer that was paired without an address."""

    def before(self, stage: Stage) -> None:
        stage.pair("home", "other", "desk")
        stage.pair("other", "home", "attic")
        super().before(stage)

    def act(self, stage: Stage) -> int:
        target = stage.url.replace("ftx://", "ftx://attic@")
        return stage.run("send", "--to", target, "--retries", "0", self.source(stage.bench), home="other").wait()


class Quota(Sending):
    """A peer with a quota: what it stored today is counted, and outlives the daemon."""

    def before(self, stage: Stage) -> None:
        stage.pair("home", "other", "desk")
        stage.pair("other", "home", "attic")
        words = f'[peer.desk]\nid = "{stage.identity("other")}"\nbytes_per_day = "10M"\nfiles_per_day = 50\n'
        (stage.home / "config.toml").write_text(words, "utf-8")
        super().before(stage)

    def act(self, stage: Stage) -> int:
        words = ["send", "--to", stage.url, "--retries", "0", self.source(stage.bench)]
        return stage.run(*words, home="other").wait()


class Reload(_Own):
    """The daemon reads its configuration again."""

    name, about = "reload", "the configuration is read again while the daemon runs"
    victims = ("daemon",)

    def before(self, stage: Stage) -> None:
        stage.pair("home", "other", "desk")
        (stage.home / "config.toml").write_text('limit_in = "10M"\n', "utf-8")
        stage.up()
        (stage.home / "config.toml").write_text('limit_in = "20M"\n', "utf-8")

    def act(self, stage: Stage) -> int:
        return stage.run("ctl", "reload").wait()

    def after(self, stage: Stage) -> None:
        if stage.running is None:
            raise RuntimeError("no daemon")
        status = stage.running.call("daemon.status")
        assert "20000000" in str(status) or "20971520" in str(status), status


class ConfigInit(_Own):
    """A commented configuration is begun."""

    name, about = "config-init", "a configuration file is begun"

    def act(self, stage: Stage) -> int:
        code = stage.run("config", "init").wait()
        if code and (stage.home / "config.toml").exists() and "exists" in stage.clients[-1].text():
            return 0  # it is there, and is not written over
        return code

    def after(self, stage: Stage) -> None:
        stage.client("config", "show").ends()
        text = (stage.home / "config.toml").read_text("utf-8")
        assert re.search(r"^# ?inbox", text, re.M), "not whole"
        assert text.endswith("\n")


class CleanUp(Sending):
    """The daemon starts a month later and clears away what is too old among the partials; then the file is sent."""

    from_start = True

    def before(self, stage: Stage) -> None:
        super().before(stage)
        if stage.running is None:
            raise RuntimeError("no daemon")
        for name in self.sizes:
            stage.arm("client", Fault("kill", 20, frozenset(["send"])))
            stage.send(self.source(stage.bench) / str(name))
            stage.disarm()
            stage.running.idle()
        if len(stage.running.partials()) != 2 * len(self.sizes):
            raise UnreadyError(f"not cut: {stage.running.partials()}")
        (stage.inbox / ".ftx" / "partial" / "whole-0123456789abcdef-1").write_bytes(b"of a process that is gone")
        stage.running.kill()
        stage.pages["daemon"].later((PARTIAL_DAYS + 1) * 86400)

    def act(self, stage: Stage) -> int:
        if stage.running is not None and stage.running.alive and stage.running.partials():
            stage.running.kill()
        struck = stage.pages["daemon"].struck
        try:
            stage.up()
        except AssertionError:
            if stage.pages["daemon"].struck:
                return -9
            raise
        daemon = stage.running
        if daemon is None:
            raise RuntimeError("no daemon")
        until(
            lambda: not daemon.partials() or not daemon.alive or stage.pages["daemon"].struck > struck,
            "what is too old is cleared away",
        )
        return stage.send(self.source(stage.bench) / "second").wait()

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {b"second": frozenset([str(stage.bench.tree(self.source(stage.bench))[b"second"][3])])}

    def after(self, stage: Stage) -> None:
        assert names_of(stage.inbox) == ["second"], names_of(stage.inbox)


class Approved(Sending):
    """A stranger's offer waits for a person, who says yes."""

    def before(self, stage: Stage) -> None:
        stage.pair("other", "home", "attic")
        super().before(stage)

    def act(self, stage: Stage) -> int:
        daemon = stage.running
        if daemon is None:
            raise RuntimeError("no daemon")
        words = ["send", "--to", stage.url, "--retries", "0", self.source(stage.bench)]
        client = stage.begin(*words, home="other")

        def waits() -> object:
            if not (client.alive and daemon.alive):
                return True
            try:
                return daemon.call("offers.list")["offers"]
            except (OSError, ValueError):
                return not daemon.alive
            except AssertionError:
                return None

        offers = until(waits, "an offer waits", said=client)
        if isinstance(offers, list):
            stage.client("ctl", "approve", offers[0]["job"]).ends(None)
        return client.wait(60)


class Embedded(Sending):
    """A program that embeds the engine sends."""

    def act(self, stage: Stage) -> int:
        return stage.program("faults.embedded", stage.home, self.source(stage.bench), stage.url).wait()


identity = Identity()
first_start = FirstStart()
peers_add = Peers("peers-add", "a peer is added to the file of known peers", "add", "new", "ID", "192.0.2.9:7389")
peers_rename = Peers("peers-rename", "a known peer gets another name", "rename", "changing", "changed")
peers_remove = Peers("peers-remove", "a peer is trusted no longer", "remove", "changing")
pairing = Pairing()
paired = PairedSend("paired", "the first transfer to a peer of which no address is known", {"a": 100, "b": MiB})
quota = Quota("quota", "a peer with a quota sends", {**SMALL, "large": MiB // 2})
reload = Reload()
config_init = ConfigInit()
clean_up = CleanUp(
    "clean-up",
    "partials that are too old are cleared away",
    {"first": 3 * MiB, "second": 3 * MiB + 1},
    victims=("daemon",),
)
approve = Approved("approve", "a stranger's offer, approved by a person", {"a": 100}, daemon=("--accept", "ask"))
api = Embedded("api", "a program that embeds the engine sends", {"a": 100, "b": 2 * MiB + 1})
