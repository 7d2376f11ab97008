"""Pulling from a daemon that shares: the client is the one that receives."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Mapping
from pathlib import Path

from faults.model import Scenario, UnreadyError
from faults.page import Fault
from faults.scenarios.sending import FOREIGN, SMALL, files_of, names_of
from faults.stage import Bench, Stage
from support.trees import MiB, digest_of, snapshot

SIZES: Mapping[str | bytes, int] = {**SMALL, "large": 4 * MiB + 77}


class Pulling(Scenario):
    """Get a share with a tree in it into a folder that is not there yet."""

    def __init__(self, name: str, about: str, *options: str) -> None:
        self.name, self.about, self.options = name, about, options

    def prepare(self, bench: Bench) -> None:
        self.source(bench)

    def source(self, bench: Bench) -> Path:
        """What is shared."""
        return bench.source(self.name, SIZES)

    def before(self, stage: Stage) -> None:
        self.place(stage).parent.mkdir(exist_ok=True)
        stage.up("--share", f"{self.name}={self.source(stage.bench)}")

    def act(self, stage: Stage) -> int:
        wanted = f"{stage.url}/{self.name}"
        return stage.run("get", "--retries", "0", *self.options, wanted, self.place(stage)).wait()

    def place(self, stage: Stage) -> Path:
        return stage.root / "out" / "here"

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        return {path: frozenset([digest]) for path, digest in files_of(stage, self.source(stage.bench)).items()}

    def after(self, stage: Stage) -> None:
        source = self.source(stage.bench)
        assert snapshot(self.place(stage) / self.name) == stage.bench.tree(source), "not identical"
        assert names_of(self.place(stage)) == [self.name], "a second copy"


class PullingOn(Pulling):
    """The same, after a client was killed in the middle of it."""

    def before(self, stage: Stage) -> None:
        super().before(stage)
        stage.arm("client", Fault("kill", 60))
        code = self.act(stage)
        stage.disarm()
        if code != -signal.SIGKILL or stage.running is None:
            raise UnreadyError(f"the first attempt was not cut: {code}")
        stage.running.idle()


class PullingOne(Pulling):
    """One file whose name is taken here, with a rule for that."""

    def prepare(self, bench: Bench) -> None:
        bench.source(self.name, {"file": 2 * MiB + 9})

    def source(self, bench: Bench) -> Path:
        return bench.source(self.name, {}) / "file"

    def before(self, stage: Stage) -> None:
        stage.up("--share", f"{self.name}={self.source(stage.bench).parent}")
        self.place(stage).mkdir(parents=True)
        (self.place(stage) / "file").write_bytes(FOREIGN)

    def act(self, stage: Stage) -> int:
        wanted = f"{stage.url}/{self.name}/file"
        return stage.run("get", "--retries", "0", *self.options, wanted, self.place(stage)).wait()

    def allowed(self, stage: Stage) -> Mapping[bytes, frozenset[str]]:
        both = frozenset([digest_of(self.source(stage.bench)), self._foreign()])
        return {b"file": both, b"file.~1~": frozenset([self._foreign()])}

    def always(self, stage: Stage) -> frozenset[str]:
        return frozenset([self._foreign()])

    @staticmethod
    def _foreign() -> str:
        return hashlib.sha256(FOREIGN).hexdigest()

    def after(self, stage: Stage) -> None:
        assert digest_of(self.place(stage) / "file") == digest_of(self.source(stage.bench))
        assert names_of(self.place(stage)) == ["file", "file.~1~"], names_of(self.place(stage))


pull = Pulling("pull", "get a tree that is shared")
pull_resume = PullingOn("pull-resume", "get the rest of what was cut")
pull_backup = PullingOne("pull-backup", "get a file whose name is taken, which is moved aside", "--conflict", "backup")
