"""How far a walk is ahead of what is announced, and what it then knows; with a real tree and a real machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from support.pair import JOB, offer
from support.trees import make_tree

from ftx import limits
from ftx.core.events import Effect, Send
from ftx.core.sender import Sender
from ftx.disk.memory import DigestMemory
from ftx.disk.source import Totals, Walk, count, roots
from ftx.net.announcing import Announcing
from ftx.net.backlog import Backlog
from ftx.net.course import Course
from ftx.net.worker import Strand
from ftx.wire.messages import Accept, FileEntry, FolderEntry, Manifest, Message, Results, Skipped, Stored

FILES = 3 * limits.BATCH + 7


class AtOnce:
    """A backlog and a strand in which every job is done before anything else happens."""

    def run(self, strand: object, done: Callable[[Any], None], function: Callable[..., Any], *args: Any) -> None:
        """Do it."""
        done(function(*args))


class Scene:
    """Trees that are announced to a receiver who takes nothing before `finish()` and leaves out every file."""

    def __init__(self, ahead: int, *trees: Path) -> None:
        self.machine = Sender(offer())
        self.manifests: list[Manifest] = []
        self.counted: list[Totals] = []
        self.far = 0
        self.most = 0
        at_once = AtOnce()
        memory = DigestMemory("/nowhere")
        course = Course(
            *(self.machine, cast(Backlog, at_once), memory, lambda: 0.0, self.perform, lambda: True, lambda: False)
        )
        self.announcing = Announcing(
            course,
            Walk(roots([str(tree) for tree in trees], "/")),
            cast(Strand, at_once),
            checksums=False,
            held=False,
            ahead=ahead,
            problem=lambda problem: pytest.fail(str(problem)),
            counted=self.counted.append,
            far=self.get_far,
        )

    def get_far(self) -> None:
        """The walk is as far ahead as it may be."""
        self.far += 1
        self.most = len(self.announcing._found)

    def perform(self, effects: Sequence[Effect]) -> None:
        """Keep the manifests."""
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Manifest):
                self.manifests.append(effect.message)

    def hear(self, message: Message) -> None:
        """The receiver says something, and there may be room."""
        self.perform(self.machine.receive(message))
        self.announcing.go_on()

    def finish(self) -> list[str]:
        """Accept, and answer everything; the paths that were announced."""
        self.hear(Accept(JOB, limits.WINDOW_UNANSWERED, limits.WINDOW_UNANSWERED, 2, 0))
        paths: list[str] = []
        for manifest in self.manifests:  # it grows meanwhile
            results: list[Any] = []
            for entry in manifest.entries:
                if isinstance(entry, FileEntry | FolderEntry):
                    paths.append(b"/".join(entry.path).decode())
                    file = isinstance(entry, FileEntry)
                    results.append(Skipped(entry.number) if file else Stored(entry.number, b"", None))
            if results:
                self.hear(Results(results))
        return paths


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some more than three batches of files in two folders."""
    made = tmp_path_factory.mktemp("announcing") / "tree"
    make_tree(made, {f"{number % 2}/{number:05}": 3 for number in range(FILES)})
    return made


@pytest.mark.parametrize("ahead", [0, 1, limits.BATCH, FILES, 10 * FILES])
def test_everything_is_announced_in_order_however_far_ahead(tree: Path, ahead: int) -> None:
    """And when the walk has ended, what there is was counted by that."""
    scene = Scene(ahead, tree)
    scene.announcing.go_on()
    paths = scene.finish()
    assert paths == sorted(paths)
    assert len(paths) == FILES + 3
    assert [manifest.last for manifest in scene.manifests] == [False] * (len(scene.manifests) - 1) + [True]
    assert scene.counted == [count(roots([str(tree)], "/"))] == [Totals(FILES, 3, 3 * FILES)]


def test_a_small_tree_is_known_before_the_receiver_has_answered(tree: Path) -> None:
    """It is looked at once, and counted by that."""
    scene = Scene(10 * FILES, tree)
    scene.announcing.go_on()
    assert scene.counted == [Totals(FILES, 3, 3 * FILES)]
    assert (scene.far, scene.manifests) == (0, [])


def test_a_walk_that_is_far_ahead_waits(tree: Path) -> None:
    """Somebody else has to count then; it is said once."""
    scene = Scene(limits.BATCH, tree)
    scene.announcing.go_on()
    assert (scene.far, scene.counted, scene.manifests) == (1, [], [])
    assert limits.BATCH <= scene.most < 2 * limits.BATCH
    scene.announcing.go_on()
    scene.finish()
    assert (scene.far, len(scene.counted)) == (1, 1)


def test_nothing_is_walked_in_advance_unless_it_may_be(tree: Path) -> None:
    """A daemon keeps nothing for receivers that do not answer."""
    scene = Scene(0, tree)
    scene.announcing.go_on()
    assert (scene.far, scene.counted, scene.manifests) == (0, [], [])
    assert not scene.announcing._found


@pytest.mark.parametrize("held", [False, True])
def test_not_even_the_end_of_nothing_is_announced_too_early(held: bool) -> None:
    """Whoever has nothing to announce says so when something may be announced."""
    scene = Scene(limits.BATCH)
    scene.announcing.held = held
    scene.announcing.go_on()
    assert (scene.counted, scene.manifests) == ([Totals(0, 0, 0)], [])
    if held:
        scene.finish()
        assert scene.manifests == []
        scene.announcing.held = False
        scene.announcing.go_on()
    else:
        scene.finish()
    assert [manifest.last for manifest in scene.manifests] == [True]
