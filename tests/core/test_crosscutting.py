"""Rules that hold in every module, held against the source itself: comparisons, catch-alls, what crosses the wire."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.memory_disk import MemoryDisk, items
from support.pair import JOB, Pair, hello

import ftx
from ftx import limits
from ftx.core.session import error_frame
from ftx.core.stages import Role
from ftx.errors import KINDS, FtxError
from ftx.wire import messages
from ftx.wire.frames import FrameDecoder, FrameType
from ftx.wire.messages import Accept, ErrorMessage, decode, encode

PACKAGE = Path(ftx.__file__).parent


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the product, by its path below the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))


# -- comparing ---------------------------------------------------------------------------------------------

#: What names a secret where it is compared.
SECRETS = {"token", "confirmation", "proof", "secret", "password"}
#: The modules that decide who somebody is: there, identities too. Elsewhere they are names that everybody may know.
DECIDING = {"core/trust.py", "core/pairing.py", "daemon/reception.py", "net/tls.py", "net/dial.py", "net/transfer.py"}


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _compared(tree: ast.Module, names: set[str]) -> list[str]:
    """Comparisons by == and != of whole values that have one of these names."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Constant) for side in sides):
                continue  # with a word or a number that stands in the source
            if names & {_name(side) for side in sides}:
                found.append(ast.unparse(node))
    return found


def test_M185_secrets_are_compared_by_same() -> None:
    """Identities, tokens and proofs of peers are compared by `same()`, which takes as long wherever they differ."""
    found = {}
    for name, tree in modules():
        names = SECRETS | ({"id", "own_id", "peer_id", "identity", "key"} if name in DECIDING else set())
        if compared := _compared(tree, names):
            found[name] = compared
    assert found == {}
    assert {name for name, _ in modules()} >= DECIDING


def test_M185_the_lint_sees() -> None:
    """It would find one."""
    names = SECRETS | {"id"}
    for text in ("a.token == b.token", "peer.id != other.id", "x == proof"):
        assert _compared(ast.parse(text), names), text
    assert not _compared(ast.parse("same(a.id, b.id)"), names)
    assert not _compared(ast.parse("secret == 'none'"), names)


# -- what a peer is told -----------------------------------------------------------------------------------


def _texts(kind: Any, where: str = "") -> Iterator[str]:
    """The fields of a message in which a sentence could travel."""
    info = msgspec.inspect.type_info(kind)

    def walk(node: Any, where: str) -> Iterator[str]:
        if isinstance(node, msgspec.inspect.StrType):
            yield where
        elif isinstance(node, msgspec.inspect.StructType):
            for field in node.fields:
                yield from walk(field.type, f"{node.cls.__name__}.{field.name}")
        for part in ("item_type", "types", "item_types"):
            inner = getattr(node, part, ())
            for one in inner if isinstance(inner, tuple) else (inner,):
                yield from walk(one, where)

    yield from walk(info, where)


def test_M187_errors_are_numbers() -> None:
    """Sentences are made where they are shown: text is what an end says of itself, and what a client does not want."""
    kinds = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.Message)]
    texts = {text for kind in kinds if kind is not messages.Message for text in _texts(kind)}
    assert texts <= {"Hello.magic", "Hello.features", "Hello.name", "Hello.software", "Request.exclude"}, texts


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", KINDS)
def test_M187_no_reason_of_ours_says_more_than_a_number(name: str, role: Role) -> None:
    """Whatever an error knows, its path, its file, its cause, the peer gets eleven bytes at most, and one number."""
    error = FtxError(name, "in /home/me/secret: [Errno 13] Permission denied: '/etc/shadow'", "look into /root")
    wire = error_frame(error, role)
    assert len(wire) <= 11
    decoder = FrameDecoder()
    decoder.feed(wire)
    item = decoder.next_item()
    assert item is not None
    message = decode(item)  # type: ignore[arg-type]
    assert isinstance(message, ErrorMessage)
    assert message.number // 100 in (4, 5, 6, 7, 8)


# -- numbers of a peer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [512, 2048, 65_535])
def test_M188_windows_of_a_receiver_only_lower_ours(window: int) -> None:
    """What a sender holds of a manifest is within its own limits, whatever the receiver would take."""
    tree = {b"%06d" % number: b"x" for number in range(3 * limits.WINDOW_UNACKNOWLEDGED)}
    client = Pair(items(tree), MemoryDisk()).client
    client.arrive(encode(hello("attic", signed_in=True)))
    client.arrive(encode(Accept(JOB, window, window, 2, 0)))
    for _ in range(500):
        if not client.strands:
            break
        client.work(next(iter(client.strands)))
    announced = 0
    for frame in client.frames:
        if frame[4] == FrameType.MANIFEST:
            decoder = FrameDecoder({FrameType.MANIFEST: limits.FRAME_BATCH})
            decoder.feed(frame)
            item = decoder.next_item()
            assert item is not None
            announced += len(decode(item).entries)  # type: ignore[arg-type,union-attr]
    assert announced == min(window, limits.WINDOW_UNANSWERED)


# -- catch-alls --------------------------------------------------------------------------------------------

#: Each place that takes any exception, and the test that brings it one. All others clean up and raise it again.
CATCH_ALLS = {
    "net/worker.py": ["tests/net/test_worker.py::test_an_exception_comes_back"],
    "net/tls.py": ["tests/net/test_tls.py::test_b37_a_certificate_that_cannot_be_parsed_is_refused_quietly"],
    "daemon/embed.py": ["tests/daemon/test_embed.py::test_a_callback_that_raises"],
    "client/cli.py": ["tests/client/test_run.py::test_anything_else_is_one_sentence_without_a_traceback"],
    "disk/inbox.py": ["tests/disk/test_inbox.py::test_unusable_inboxes"],
}


def _swallowing(tree: ast.Module) -> int:
    """How many handlers take any exception and do not end by raising."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            any_at_all = node.type is None or _name(node.type) in ("Exception", "BaseException")
            count += any_at_all and not isinstance(node.body[-1], ast.Raise)
    return count


def test_M190_catch_alls_are_few_and_each_is_reached() -> None:
    """A new one needs a reason, and a test that brings it an exception and sees a refusal."""
    found = {name: count for name, tree in modules() if (count := _swallowing(tree))}
    assert set(found) <= set(CATCH_ALLS), found
    root = PACKAGE.parent
    for tests in CATCH_ALLS.values():
        for test in tests:
            path, _, function = test.partition("::")
            assert f"def {function}(" in (root / path).read_text("utf-8"), test


def test_M190_no_assertion_guards_anything() -> None:
    """`python -O` removes assertions: the product has none, so that no check can disappear."""
    asserting = [name for name, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert asserting == []
