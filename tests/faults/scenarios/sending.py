"""Sending to the daemon: trees, large files, older and newer versions, names that are taken, links, standard input."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from faults.model import Scenario, UnreadyError
from faults.page import Fault
from faults.stage import Bench, Stage
from support.trees import MiB, digest_of, make_tree, snapshot

#: What has a name already that is sent.
FOREIGN = b"somebody else's"
#: Files of one block, in folders.
SMALL: Mapping[str | bytes, int] = {f"{'abc'[number % 3]}/{number}": 40 + number * 37 for number in range(12)}


def files_of(stage: Stage, source: Path, top: str = "") -> dict[bytes, str]:
    """The files of a source by the names they get, `top` in the place of its own name, with their digests."""
    name = os.fsencode(top or source.name)
    return {
        (name if path == b"." else name + b"/" + path): str(entry[3])
        for path, entry in stage.bench.tree(source).items()
        if len(entry) == 4
    }


def names_of(place: Path) -> list[str]:
    """The names at the top of a folder that receives, without ftx's own."""
    return sorted(name for name in os.listdir(place) if name != ".ftx")


class Sending(Scenario):
    """Send a source of its own, under its own name, with some options, into an empty inbox."""

    def __init__(
        self,
        name: str,
        about: str,
        sizes: Mapping[str | bytes, int],
        *options: str,
        daemon: Sequence[str] = (),
        victims: Sequence[str] = ("daemon", "client"),
    ) -> None:
        self.name, self.about, self.victims = name, about, victims
        self.sizes, self.options, self.daemon = sizes, options, daemon

    def prepare(self, bench: Bench) -> None:
        self.source(bench)

    def source(self, bench: Bench) -> Path:
        """What is sent."""
        return bench.source(self.name, self.sizes)

    def before(self, stage: Stage) -> None:
        stage.up(*self.daemon)

    def act(self, stage: Stage) -> int:
        return stage.send(*self.options, self.source(stage.bench)).wait()

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {path: frozenset([digest]) for path, digest in files_of(stage, self.source(stage.bench)).items()}

    def after(self, stage: Stage) -> None:
        source = self.source(stage.bench)
        assert snapshot(stage.inbox / source.name) == stage.bench.tree(source), "not identical"
        assert names_of(stage.inbox) == [source.name], "a second copy"


class Resuming(Sending):
    """The same, after a client was killed in the middle of it."""

    def before(self, stage: Stage) -> None:
        super().before(stage)
        stage.arm("client", Fault("kill", 25, frozenset(["send"])))
        code = stage.send(*self.options, self.source(stage.bench)).wait()
        stage.disarm()
        if code != -signal.SIGKILL or stage.running is None:
            raise UnreadyError(f"the first attempt was not cut: {code}")
        stage.running.idle()
        if not stage.running.partials():
            raise UnreadyError("nothing was left to resume")


class Versions(Sending):
    """Send a newer version of a file of which the older one was sent before, both under the name `large`."""

    #: The name that the older version has in the end, where it still is there.
    aside = ""

    def prepare(self, bench: Bench) -> None:
        self.version(bench, 1)
        self.version(bench, 2)

    def version(self, bench: Bench, number: int) -> Path:
        """A version of the file; they share all but the first and the last block, and a bit in the middle."""
        folder = bench.source(f"{self.name}-{number}", {})
        path = folder / "large"
        if not path.exists():
            make_tree(folder, {"large": 4 * MiB + 5})
            if number == 2:
                with path.open("r+b") as file:
                    for at in (0, 2 * MiB + 100, 4 * MiB):
                        file.seek(at)
                        file.write(b"newer")
                os.utime(path, ns=(1, 1_700_000_000_000_000_001))
            bench.renewed(folder)
        return path

    def source(self, bench: Bench) -> Path:
        return self.version(bench, 2)

    def before(self, stage: Stage) -> None:
        super().before(stage)
        if stage.send(*self.options, self.version(stage.bench, 1)).wait() != 0:
            raise RuntimeError("the older version was not sent")

    def names(self, stage: Stage) -> tuple[str, str]:
        """The digests of the older and the newer version."""
        return digest_of(self.version(stage.bench, 1)), digest_of(self.version(stage.bench, 2))

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        both = frozenset(self.names(stage))
        return {b"large": both} | ({os.fsencode(self.aside): both} if self.aside else {})

    def kept(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {b"large": frozenset(self.names(stage))}

    def after(self, stage: Stage) -> None:
        old, new = self.names(stage)
        expected = {"large": new}
        if self.aside == "large (1)":
            expected = {"large": old, self.aside: new}
        elif self.aside:
            expected[self.aside] = old
        assert {name: digest_of(stage.inbox / name) for name in names_of(stage.inbox)} == expected


class Backup(Versions):
    """The older version is moved aside."""

    aside = "large.~1~"

    def kept(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {}

    def always(self, stage: Stage) -> frozenset[str]:
        return frozenset([self.names(stage)[0]])


class Delta(Versions):
    """The newer version comes beside the older one, whose blocks need not travel."""

    aside = "large (1)"

    def kept(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {b"large": frozenset([self.names(stage)[0]])}


class Taken(Sending):
    """The name is taken by something that ftx knows nothing of."""

    def before(self, stage: Stage) -> None:
        super().before(stage)
        (stage.inbox / "notes.txt").write_bytes(FOREIGN)

    def source(self, bench: Bench) -> Path:
        return super().source(bench) / "notes.txt"

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {b"notes (1).txt": frozenset([digest_of(self.source(stage.bench))]), **self.kept(stage)}

    def kept(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {b"notes.txt": frozenset([hashlib.sha256(FOREIGN).hexdigest()])}

    def after(self, stage: Stage) -> None:
        assert names_of(stage.inbox) == ["notes (1).txt", "notes.txt"], names_of(stage.inbox)


class Linked(Sending):
    """A tree with symbolic links, which are kept."""

    links: Mapping[str, str] = {"first": "a/0", "a/up": "../b/1", "b/dangling": "nothing"}

    def source(self, bench: Bench) -> Path:
        path = super().source(bench)
        if not (path / "first").is_symlink():
            for name, target in self.links.items():
                (path / name).symlink_to(target)
            bench.renewed(path)
        return path

    def after(self, stage: Stage) -> None:
        source = self.source(stage.bench)
        top = stage.inbox / source.name
        assert {name: os.readlink(top / name) for name in self.links} == dict(self.links)
        assert snapshot(top) == stage.bench.tree(source), "not identical"


class Checked(Sending):
    """What is there already has other times: it is recognised by its content, and sent no second time."""

    def before(self, stage: Stage) -> None:
        super().before(stage)
        copy = stage.root / self.name
        shutil.copytree(self.source(stage.bench), copy)
        for path in copy.rglob("*"):
            os.utime(path, (1, 1_400_000_000))
        if stage.send(copy).wait() != 0:
            raise RuntimeError("the copy was not sent")

    def after(self, stage: Stage) -> None:
        source = self.source(stage.bench)
        found = {path: entry[3] for path, entry in snapshot(stage.inbox / source.name).items() if len(entry) == 4}
        sent = {path: entry[3] for path, entry in stage.bench.tree(source).items() if len(entry) == 4}
        assert found == sent
        assert names_of(stage.inbox) == [source.name], "a second copy"


class Receipted(Sending):
    """The receipt is copied to a file of the user's."""

    def act(self, stage: Stage) -> int:
        return stage.send("--receipt", stage.root / "receipt.txt", self.source(stage.bench)).wait()

    def after(self, stage: Stage) -> None:
        super().after(stage)
        kept = list((stage.home / "state" / "receipts").glob("*"))
        assert (stage.root / "receipt.txt").read_bytes() in [path.read_bytes() for path in kept], "no whole receipt"


class Piped(Sending):
    """Standard input, of unknown size. It is read once: what was cut comes again, and whole."""

    def act(self, stage: Stage) -> int:
        with (self.source(stage.bench) / "stream").open("rb") as stdin:
            return stage.send("--name", "stream.bin", "-", stdin=stdin).wait()

    def _digest(self, stage: Stage) -> frozenset[str]:
        return frozenset([digest_of(self.source(stage.bench) / "stream")])

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return dict.fromkeys((b"stream.bin", b"stream (1).bin"), self._digest(stage))

    def after(self, stage: Stage) -> None:
        assert "stream.bin" in names_of(stage.inbox)


class Together(Sending):
    """Two senders, each with a key of its own, send other content under the same names at the same time."""

    def before(self, stage: Stage) -> None:
        stage.pair("home", "other", "other")
        stage.pair("other", "home", "receiver")
        super().before(stage)

    def prepare(self, bench: Bench) -> None:
        super().prepare(bench)
        self._second(bench)

    def _second(self, bench: Bench) -> Path:
        return bench.source(self.name + "-2", self.sizes, seed=2)

    def act(self, stage: Stage) -> int:
        words = ["send", "--to", stage.url, "--retries", "0", "--into", "both"]
        first = stage.begin(*words, *sorted(self.source(stage.bench).iterdir()))
        second = stage.begin(*words, *sorted(self._second(stage.bench).iterdir()), home="other")
        codes = [client.wait(60) for client in (first, second)]
        return next((code for code in codes if code), 0)

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        found = {}
        sources = self.source(stage.bench), self._second(stage.bench)
        for name in self.sizes:
            both = frozenset(digest_of(source / str(name)) for source in sources)
            found |= {f"both/{name}".encode(): both, f"both/{name} (1)".encode(): both}
        return found

    def after(self, stage: Stage) -> None:
        for name, digests in self.allowed(stage).items():
            if not name.endswith(b" (1)"):
                both = {digest_of(os.path.join(os.fsencode(stage.inbox), name + tail)) for tail in (b"", b" (1)")}
                assert both == digests, name


small_tree = Sending("small-tree", "a dozen small files in folders, stored as one batch", SMALL)
few = Sending("few", "three small files, synced one by one", {"1": 1, "2": 0, "3": MiB})
folders = Sending("folders", "empty files, folders in folders", {f"{'/'.join('abcde'[:n])}/x": 0 for n in range(1, 6)})
one_large = Sending("one-large", "one file of several blocks", {"large": 4 * MiB + 77})
zeros = Sending("zeros", "many blocks, most of them zeros", {"holes": -(12 * MiB), "tail": 2 * MiB + 5})
resume = Resuming("resume", "a large file goes on where it was cut", {"large": 6 * MiB + 77, "small": 50})
delta = Delta("delta", "a newer version of a large file beside the older one", {}, "--conflict", "rename")
overwrite = Versions(
    "overwrite",
    "a newer version takes the place of the older one",
    {},
    *("--conflict", "overwrite"),
    daemon=("--conflict", "overwrite"),
)
backup = Backup(
    "backup", "the older version is moved aside", {}, "--conflict", "backup", daemon=("--conflict", "backup")
)
rename = Taken("rename", "the name is taken by a stranger's file", {"notes.txt": 5000})
links = Linked("links", "a tree with symbolic links", SMALL, "--links", "keep", daemon=("--links", "keep"))
checksum = Checked("checksum", "recognised by content", {**SMALL, "large": 2 * MiB + 3}, "--checksum")
receipt = Receipted("receipt", "the receipt is copied to a file", {"a": 100, "b": 200}, victims=("client",))
stdin = Piped("stdin", "standard input, of unknown size", {"stream": 3 * MiB + 9})
together = Together("together", "two senders, the same names, other content", {"a": 900, "b": 2 * MiB + 1, "c": 0})
