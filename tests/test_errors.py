"""The registry of errors: frozen numbers, one family per exit code, and what becomes of unknown numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ftx.errors import KINDS, Error, FtxError, LocalProtocolError, ProtocolError, StartupError, kind, kind_by_number

SPECIFICATION = Path(__file__).parent.parent / "docs" / "protocol.md"


def test_names_and_numbers_are_unique() -> None:
    """A number is one name, a name one number, in the form that documents promise."""
    numbers = [row.number for row in KINDS.values()]
    assert len(set(numbers)) == len(numbers)
    for name, row in KINDS.items():
        assert name == row.name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert 100 <= row.number <= 20_000
        assert 1 <= row.exit_code <= 143
        assert row.sentence
        assert not row.sentence.endswith(".")
        for text in (row.sentence, row.hint):
            assert text.isprintable()


def test_each_family_has_a_first_member() -> None:
    """The lowest number of a family stands for those that we do not know, so it must be its most general one."""
    families = {row.exit_code for row in KINDS.values()}
    assert families >= {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 130, 143}
    for family in families:
        members = [row.number for row in KINDS.values() if row.exit_code == family]
        assert kind_by_number(family * 100 + 99).number == min(members)


#: Numbers that are on the wire or in scripts: these never change.
FROZEN = {
    101: "internal", 201: "usage", 301: "source-missing", 302: "source-unreadable", 303: "source-changed",
    304: "source-vanished", 401: "connection-refused", 404: "connection-lost", 405: "peer-silent",
    408: "peer-stopping", 501: "untrusted", 505: "not-authorised", 601: "refused", 605: "busy", 606: "no-space",
    607: "exists", 608: "bad-name", 609: "over-offer", 610: "storage-failed", 611: "not-supported",
    612: "superseded", 614: "cancelled", 615: "not-shared", 701: "digest-mismatch", 702: "receipt-invalid",
    801: "protocol-error", 802: "no-common-version", 803: "not-ftx", 804: "frame-too-large", 805: "wrong-state",
    806: "bad-message", 807: "unknown-frame", 808: "hello-timeout", 901: "partial", 1001: "timeout",
    1101: "none-found", 1201: "no-daemon",
    13001: "interrupted", 14301: "terminated",
}  # fmt: skip


@pytest.mark.case("K170")
@pytest.mark.parametrize(("number", "name"), FROZEN.items())
def test_frozen_numbers(number: int, name: str) -> None:
    """They are here a second time on purpose."""
    assert kind(name).number == number
    assert kind_by_number(number) is kind(name)


def test_the_table_of_the_specification() -> None:
    """Every number that `docs/protocol.md` names has that name here."""
    section = SPECIFICATION.read_text("utf-8").split("## 11. Errors")[1].split("## 12.")[0]
    pairs = re.findall(r"\| (\d{3}) \| ([a-z-]+) ", section)
    assert len(pairs) >= 15
    for number, name in pairs:
        assert kind(name).number == int(number)


@pytest.mark.parametrize(
    ("number", "name"), [(699, "refused"), (20_000, "internal"), (0, "internal"), (-5, "internal")]
)
def test_unknown_numbers(number: int, name: str) -> None:
    """A newer peer's number keeps its family; one of no family is ours to wonder about."""
    assert kind_by_number(number).name == name


def test_an_error_is_the_same_as_a_value_and_as_an_exception() -> None:
    """Nothing is lost on the way."""
    error = FtxError("no-space", "the receiver is full", "make room")
    value = error.as_value()
    assert value == Error("no-space", "the receiver is full", "make room")
    assert (value.number, value.exit_code) == (error.number, error.exit_code) == (606, 6)
    plain = FtxError("no-space")
    assert (plain.message, plain.hint) == (kind("no-space").sentence, kind("no-space").hint)


def test_whose_fault() -> None:
    """The three kinds of exception that say so; an unknown name is a mistake of ours."""
    for fault in (ProtocolError("bad-message"), StartupError("inbox-unusable"), LocalProtocolError("we must not")):
        assert isinstance(fault, FtxError)
    assert LocalProtocolError("we must not").name == "internal"
    with pytest.raises(KeyError):
        FtxError("no-such-name")
    with pytest.raises(KeyError):
        kind("no-such-name")


def test_busy_says_when_to_try_again() -> None:
    """A connection that has just been cut keeps the next one out for a moment; whoever tries once only is told."""
    assert "again in a second" in kind("busy").hint
