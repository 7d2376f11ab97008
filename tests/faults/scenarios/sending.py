"""Sending to the daemon: trees, large files, older and newer versions, names that are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from faults.model import Scenario
from faults.stage import Stage
from support.trees import MiB, snapshot

#: Files of one block, in folders.
SMALL: Mapping[str | bytes, int] = {f"{'abc'[number % 3]}/{number}": 40 + number * 37 for number in range(12)}


class Sending(Scenario):
    """Send a source of its own, under its own name, with some options, into an empty inbox."""

    def __init__(
        self, name: str, about: str, sizes: Mapping[str | bytes, int], *options: str, victims: Sequence[str] = ()
    ) -> None:
        self.name, self.about = name, about
        self.victims = victims or self.victims
        self._sizes, self._options = sizes, options

    def source(self, stage: Stage) -> Path:
        """What is sent."""
        return stage.bench.source(self.name, self._sizes)

    def before(self, stage: Stage) -> None:
        self.source(stage)
        stage.bench.settled()
        stage.up()

    def act(self, stage: Stage) -> int:
        return stage.send(*self._options, self.source(stage)).wait()

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {path: frozenset([digest]) for path, digest in self.files(stage).items()}

    def files(self, stage: Stage) -> dict[bytes, str]:
        """The files of the source by the names they get, with their digests."""
        tree = stage.bench.tree(self.source(stage))
        top = self.source(stage).name.encode()
        return {
            (top if path == b"." else top + b"/" + path): str(entry[3])
            for path, entry in tree.items()
            if len(entry) == 4
        }

    def after(self, stage: Stage) -> None:
        source = self.source(stage)
        assert snapshot(stage.inbox / source.name) == stage.bench.tree(source), "not identical"


small_tree = Sending("small-tree", "a dozen small files in folders, stored as one batch", SMALL)
one_large = Sending("one-large", "one file of several blocks", {"large": 4 * MiB + 77})
zeros = Sending("zeros", "many blocks, most of them zeros", {"holes": -(12 * MiB), "tail": 2 * MiB + 5})
