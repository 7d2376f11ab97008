"""Any story of a transfer: two machines, a model of the disk, and an adversary between them.

The adversary cuts connections anywhere, delays what is on its way, lets an older connection live on until a newer one
takes over, edits the sources between two attempts, breaks blocks, and lets the disk fail. Whatever it does, the
promises hold: what is reported done is there, nothing else is ever visible, nothing that was there is changed, and once
it leaves the two alone the same command ends well without sending what was durable.

A test is worth what it finds: machines with a bug are played through the same stories, and have to be found out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.memory_disk import MTIME, File, MemoryDisk
from support.pair import Pair

from ftx import limits
from ftx.core.blocks import BlockSet
from ftx.core.events import Effect
from ftx.core.incoming import File as Incoming
from ftx.core.receiver import Receiver
from ftx.core.sender import Sender
from ftx.errors import KINDS, FtxError

MIB = limits.BLOCK
_SOURCE = random.Random(31).randbytes(3 * MIB)
NAMES = [b"a", b"b", b"c"]
SIZES = [5, MIB + 1, 2 * MIB + 77, 3 * MIB, 0]


#: What the adversary can make files fail with.
_EXCUSES = {KINDS[name].number for name in ("no-space", "digest-mismatch")}


class Story(RuleBasedStateMachine):
    """One inbox, three files, any number of attempts."""

    sender: type[Sender] = Sender
    receiver: type[Receiver] = Receiver

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk()
        self.sources: dict[bytes, File] = {}
        self.versions: set[bytes] = set()
        self.memory: dict[Any, dict[int, bytes]] = {}
        self.older: Pair | None = None
        self.seen: dict[Any, bytes] = {}
        self.clock = MTIME

    @initialize(sizes=st.tuples(*[st.sampled_from(SIZES)] * len(NAMES)))
    def begin(self, sizes: tuple[int, ...]) -> None:
        """Three files."""
        for name, size in zip(NAMES, sizes, strict=True):
            self._write(name, _SOURCE[:size])

    def _write(self, name: bytes, content: bytes, **fields: Any) -> None:
        self.clock += 1
        self.sources[name] = File((name,), content, self.clock, **fields)
        self.versions.add(content)
        self.memory.pop((name,), None)

    # -- the adversary -------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), at=st.integers(0, 3 * MIB), size=st.sampled_from(SIZES))
    def edit(self, name: bytes, at: int, size: int) -> None:
        """Another byte somewhere, perhaps another length."""
        content = bytearray(_SOURCE[:size])
        if content:
            content[at % len(content)] ^= 1
        self._write(name, bytes(content))

    @rule(name=st.sampled_from(NAMES), block=st.integers(0, 2), times=st.integers(1, 3))
    def break_blocks(self, name: bytes, block: int, times: int) -> None:
        """A block that arrives broken, once or more."""
        file = self.sources[name]
        if file.block(block):
            self.sources[name] = File(file.path, file.content, file.mtime, lies=block, times=times)

    @rule(name=st.sampled_from(NAMES), stage=st.sampled_from(["store", "write 0", "write 1", "sync", "publish"]))
    def break_disk(self, name: bytes, stage: str) -> None:
        """The disk fails for one file."""
        self.disk.faults[(name,)] = f"{stage} no-space"

    @rule()
    def mend(self) -> None:
        """Disk and sources are well again."""
        self.disk.faults.clear()
        self.sources = {name: File(f.path, f.content, f.mtime) for name, f in self.sources.items()}

    @rule(
        seed=st.integers(0, 2**32),
        who=st.sampled_from(["client", "server"]),
        share=st.integers(0, 100),
        cut=st.sampled_from(["whole", "random"]),
    )
    def cut(self, seed: int, who: str, share: int, cut: str) -> None:
        """An attempt whose connection ends somewhere."""
        size = sum(len(file.content) for file in self.sources.values()) + 600
        most = share * (size if who == "client" else 600) // 100
        self._check(self._pair(seed, cut=cut, lose=(who, most)).run())

    @rule(seed=st.integers(0, 2**32), steps=st.integers(1, 120))
    def hang(self, seed: int, steps: int) -> None:
        """An attempt that is left alone half-way: what is on its way stays there."""
        self._take_over()
        pair = self._pair(seed, cut="random")
        for _ in range(steps):
            if not (pair.client.session.over and pair.server.session.over):
                pair.step()
        self.older = pair

    @rule(seed=st.integers(0, 2**32))
    def attempt(self, seed: int) -> None:
        """An attempt that nobody cuts."""
        self._check(self._pair(seed).run())

    # -- what happens --------------------------------------------------------------------------------------

    def _pair(self, seed: int, **how: Any) -> Pair:
        self._take_over()
        entries = [self.sources[name] for name in sorted(self.sources)]
        machines = {"sender": self.sender, "receiver": self.receiver}
        return Pair(entries, self.disk, seed=seed, memory=self.memory, **machines, **how)

    def _take_over(self) -> None:
        """The older connection is evicted before the newer one begins; what it still says falls on deaf ears."""
        older, self.older = self.older, None
        if older is not None and not older.server.session.over:
            older.server.session.fail()
            older.server.strands.clear()
            older.run()
        if older is not None:
            self._check(older)

    # -- the promises --------------------------------------------------------------------------------------

    def _check(self, pair: Pair) -> None:
        for end in (pair.client, pair.server):
            if end.error is not None:
                assert end.error.name in ("peer-silent", "connection-lost", "superseded"), pair.explain()
        for entry in pair.client.resolved:
            if entry.status in ("stored", "identical"):
                wanted = {file.path: file.content for file in pair.entries}[entry.path]
                assert self.disk.files.get(entry.stored_as) == wanted, "reported done, and not there"
            else:
                assert entry.error in _EXCUSES, "failed for no reason that there was"
        self._whole()

    @invariant()
    def _whole(self) -> None:
        assert set(self.disk.files.values()) <= self.versions, "something is visible that nobody sent"
        for path, content in self.seen.items():
            assert self.disk.files.get(path) == content, "something that was there has changed"
        self.seen = dict(self.disk.files)

    def teardown(self) -> None:
        """Left alone, the same command ends well, and sends nothing of what was durable."""
        if not self.sources:
            return
        self._take_over()
        self.mend()
        durable = {
            key[0]: sum(map(len, blocks.values())) for key, blocks in self.disk.partials.items()
            if key in {(f.path, len(f.content), f.mtime) for f in self.sources.values()}
        }  # fmt: skip
        pair = self._pair(1).run()
        assert pair.complete, pair.explain()
        assert {entry.status for entry in pair.client.resolved} <= {"stored", "identical"}
        self._check(pair)
        assert pair.server.machine is not None
        most = sum(len(file.content) - durable.get(file.path, 0) for file in self.sources.values())
        assert pair.server.machine.received <= most, "what was durable has travelled again"


QUICK = settings(
    max_examples=40,
    stateful_step_count=6,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def test_any_story() -> None:
    """The promises hold."""
    run_state_machine_as_test(Story, settings=QUICK)


# -- machines with a bug -------------------------------------------------------------------------------------


class TooEarly(Receiver):
    """Says that a file is stored when its blocks are, before it is published."""

    def _publish_if_complete(self, file: Incoming) -> list[Effect]:
        effects = super()._publish_if_complete(file)
        if effects and file.digest is not None and file.number in self._files:
            path = (*self._offer.into, *file.path)
            return [*effects, *super().stored([(file.number, path, file.digest)])]
        return effects

    def stored(self, found: Sequence[tuple[int, tuple[bytes, ...], bytes]]) -> list[Effect]:
        """They may have their results already."""
        found = [one for one in found if one[0] in self._files]
        return super().stored(found) if found else []


class Trusting(Receiver):
    """Takes a block that did not verify for one that did."""

    def block_written(self, number: int, block: int, ok: bool, now: float) -> list[Effect]:
        """Whatever the disk says."""
        return super().block_written(number, block, True, now)


class Forgetful(Sender):
    """Leaves out the last block of a file that is being resumed."""

    def opened(self, number: int, known: BlockSet) -> None:
        """Asked for, but not sent."""
        wanted = self._entries[number].wanted
        if wanted is not None and 0 < wanted.count < wanted.blocks:
            wanted.discard(max(wanted))
        super().opened(number, known)


class Generous(Sender):
    """Sends all of a file, whatever was asked for."""

    def opened(self, number: int, known: BlockSet) -> None:
        """Asked for or not."""
        self._entries[number].wanted = BlockSet.full(known.blocks)
        super().opened(number, known)


@pytest.mark.parametrize("mutant", [TooEarly, Trusting, Forgetful, Generous], ids=lambda mutant: mutant.__name__)
def test_a_machine_with_a_bug_is_found_out(mutant: Any) -> None:
    """The same stories, until one goes wrong."""
    role = "receiver" if issubclass(mutant, Receiver) else "sender"
    story = type("Mutated", (Story,), {role: mutant})
    found = settings(QUICK, max_examples=400, derandomize=True, phases=[Phase.generate])
    with pytest.raises((AssertionError, FtxError, KeyError)):
        run_state_machine_as_test(story, settings=found)
