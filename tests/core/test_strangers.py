"""Who has to make room: by what each has shown, by how many its source has, and by age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.core.strangers import Rank, Strangers
from ftx.core.trust import source_of


def nobody(_: object) -> bool:
    return False


def crowd(*members: tuple[str, str]) -> Strangers[str]:
    made: Strangers[str] = Strangers()
    for name, source in members:
        made.add(name, source)
    return made


def test_nobody_is_there() -> None:
    """And nothing happens to those who are not."""
    empty: Strangers[str] = Strangers()
    empty.forget("a")
    empty.raise_to(Rank.PROVED, "a")
    assert empty.least(nobody) is None
    assert list(empty) == []


def test_B26_the_source_with_most_of_them_loses_its_oldest() -> None:
    """However old somebody from elsewhere is."""
    strangers = crowd(("honest", "a"), *((f"crowd {n}", "b") for n in range(1000)))
    for n in range(999):
        assert strangers.least(nobody) == f"crowd {n}"
        strangers.forget(f"crowd {n}")
    assert len(strangers) == 2
    assert strangers.least(nobody) == "honest"  # one each: the one that came first


def test_silence_goes_before_words_and_words_before_proofs() -> None:
    """What somebody has shown counts more than how many come from there."""
    strangers = crowd(("proved", "a"), ("spoke", "a"), ("silent", "b"), ("spoke too", "a"))
    strangers.raise_to(Rank.PROVED, "proved")
    strangers.raise_to(Rank.SPOKE, "spoke")
    going = []
    while (one := strangers.least(lambda one: one.startswith("spoke"))) is not None:
        going.append(one)
        strangers.forget(one)
    assert going == ["silent", "spoke", "spoke too", "proved"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
        ("not an address", "192.0.2.1", False),
    ],
)
def test_B27_what_one_source_is(one: str, other: str, same: bool) -> None:
    """An IPv4 address, or a network of IPv6 with 64 bits."""
    assert (source_of(one) == source_of(other)) is same


def test_B27_a_thousand_addresses_of_one_network() -> None:
    """They are one crowd."""
    strangers = crowd(("honest", source_of("2001:db8:1::1")))
    for n in range(1000):
        strangers.add(f"crowd {n}", source_of(f"2001:db8:2::{n:x}"))
    assert strangers.least(nobody) == "crowd 0"


STEPS = st.lists(st.tuples(st.sampled_from("asrpfl"), st.integers(0, 8), st.sampled_from("xyz")), max_size=60)


@given(STEPS)
def test_any_history(steps: list[tuple[str, int, str]]) -> None:
    """Beside a plain list of the same: who goes is of the lowest rank, of a greediest source, and its oldest."""
    strangers: Strangers[int] = Strangers()
    model: list[list[object]] = []
    for step, number, source in steps:
        here = [row for row in model if row[0] == number]
        if step == "a" and not here:
            strangers.add(number, source)
            model.append([number, Rank.SILENT, source])
        elif step in "rp" and here:
            rank = Rank.SPOKE if step == "r" else Rank.PROVED
            strangers.raise_to(rank, number)
            model.remove(here[0])
            model.append([number, rank, here[0][2]])
        elif step == "f":
            strangers.forget(number)
            model = [row for row in model if row[0] != number]
        elif step == "l" and model:
            lowest = min(row[1] for row in model)  # type: ignore[type-var]
            rows = [row for row in model if row[1] == lowest]
            most = max(sum(other[2] == row[2] for other in rows) for row in rows)
            oldest = {}
            for row in rows:
                if sum(other[2] == row[2] for other in rows) == most:
                    oldest.setdefault(row[2], row[0])
            assert strangers.least(nobody) in oldest.values()
        assert len(strangers) == len(model)
        assert set(strangers) == {row[0] for row in model}
