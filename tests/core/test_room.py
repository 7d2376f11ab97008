"""The room for received content: a bound over all jobs, turns for those who wait, and nobody who waits for ever."""

from __future__ import annotations

import random

import pytest

from ftx import limits
from ftx.core.room import Pace, Room

A, B, C = (bytes([number]) * 32 for number in range(3))


def test_beyond_the_room_somebody_waits_until_there_is_some() -> None:
    """All of it can be taken, not a byte more; who waits is served when that byte is given back."""
    keys = [bytes([number]) for number in range(limits.RECEIVE_TOTAL // limits.RECEIVE_SHARE + 1)]
    room: Room[str] = Room()
    left = limits.RECEIVE_TOTAL
    for key in keys:
        size = min(left, limits.RECEIVE_SHARE)
        assert room.need(f"holder {key!r}", key, size) == []
        left -= size
    assert room.taken == limits.RECEIVE_TOTAL
    assert not room.wanted
    assert room.need("late", B, 1) == []
    assert room.waits("late", B)
    first = f"holder {keys[0]!r}"
    assert room.need(first, keys[0], limits.RECEIVE_SHARE - 1) == ["late"]
    assert not room.waits("late", B)
    assert room.taken == limits.RECEIVE_TOTAL


def test_one_key_leaves_room_for_the_others() -> None:
    """With RECEIVE_SHARE taken by one key its next job waits; another key's does not, though it came later."""
    room: Room[str] = Room()
    assert room.need("a1", A, limits.RECEIVE_SHARE) == []
    assert not room.waits("a1", A)
    room.need("a2", A, 1)
    assert room.waits("a2", A)
    room.need("b1", B, limits.BLOCK)
    assert not room.waits("b1", B)
    assert room.need("a1", A, 0) == ["a2"]


def test_nobody_overtakes_whose_turn_it_is() -> None:
    """A small need that would fit waits behind a large one that does not."""
    room: Room[str] = Room(100, 100)
    room.need("holder", A, 60)
    room.need("large", B, 50)
    room.need("small", C, 1)
    assert room.waits("small", C)
    assert room.need("holder", A, 50) == ["large"]
    assert room.need("holder", A, 49) == ["small"]


def test_keys_take_turns() -> None:
    """Of one key three wait, of another one: that one is second, not fourth."""
    room: Room[str] = Room(10, 10)
    room.need("holder", C, 10)
    for who, key in (("a1", A), ("a2", A), ("a3", A), ("b1", B)):
        room.need(who, key, 10)
    order = []
    holder, its = "holder", C
    while room.wanted:
        (served,) = room.need(holder, its, 0)
        order.append(served)
        holder, its = served, A if served.startswith("a") else B
    assert order == ["a1", "b1", "a2", "a3"]


def test_who_is_alone_is_never_kept_waiting() -> None:
    """Even one that needs more than there is: nobody else could give it anything."""
    room: Room[str] = Room(10, 5)
    room.need("only", A, 100)
    assert not room.waits("only", A)
    room.need("next", B, 1)
    assert room.waits("next", B)
    assert room.need("only", A, 0) == ["next"]


def test_who_waits_may_need_less_after_all() -> None:
    """What it has is enough again, or it goes: its waiting has ended, and those behind it move up."""
    room: Room[str] = Room(10, 10)
    room.need("holder", A, 8)
    room.need("first", B, 2)
    room.need("first", B, 5)
    room.need("second", C, 1)
    assert room.waits("first", B)
    assert room.need("first", B, 2) == ["first"]
    assert room.waits("second", C)
    assert room.need("first", B, 0) == ["second"]
    room.need("first", B, 3)
    assert room.need("first", B, 0) == ["first"]
    room.need("holder", A, 0)
    room.need("second", C, 0)
    assert (room.taken, room.wanted, room.scarce) == (0, False, False)


@pytest.mark.parametrize("seed", range(20))
def test_everybody_gets_through_and_the_bound_holds(seed: int) -> None:
    """Jobs of a few keys with blocks of any size, in any order: all are served, never more than the total at once."""
    chance = random.Random(seed)
    room: Room[int] = Room(40, 25)
    keys = {who: bytes([chance.randrange(3)]) for who in range(60)}
    left = {who: chance.randrange(1, 5) for who in keys}
    holds: dict[int, int] = {}
    waits: dict[int, int] = {}
    steps = 0
    while any(left.values()):
        steps += 1
        assert steps < 10_000
        able = [who for who in left if who not in waits and left[who]]
        assert able, "all wait for each other"
        who = chance.choice(able)
        size = 0 if who in holds else chance.randrange(1, 12)
        served = room.need(who, keys[who], size)
        if size and room.waits(who, keys[who]):
            waits[who] = size
        elif size:
            holds[who] = size
        else:
            del holds[who]
            left[who] -= 1
        for one in served:
            holds[one] = waits.pop(one)
        assert room.taken == sum(holds.values()) <= 40
        for key in set(keys.values()):
            assert sum(size for one, size in holds.items() if keys[one] == key) <= 25
    assert room.taken == 0


def test_who_fills_its_room_too_slowly() -> None:
    """Less than a block in ROOM_TIME, whenever that is counted from; a rest starts it anew."""
    pace = Pace()
    assert not pace.too_slow(0, {}, 5.0)
    assert not pace.too_slow(limits.BLOCK - 1, {}, 5.0 + limits.ROOM_TIME - 1)
    assert pace.too_slow(limits.BLOCK - 1, {}, 5.0 + limits.ROOM_TIME)
    assert not pace.too_slow(limits.BLOCK, {}, 5.0 + limits.ROOM_TIME)
    assert not pace.too_slow(limits.BLOCK, {}, 5.0 + 2 * limits.ROOM_TIME - 1)
    pace.rest()
    assert not pace.too_slow(limits.BLOCK, {}, 5.0 + 3 * limits.ROOM_TIME)


def test_who_leaves_half_a_block_on_a_lane() -> None:
    """Nothing more of it in ROOM_TIME, however much else comes: that is found out; any byte of it counts."""
    pace, end = Pace(), 1.0 + limits.ROOM_TIME
    assert not pace.too_slow(0, {1: "half", 2: "a little"}, 1.0)
    assert not pace.too_slow(9 * limits.BLOCK, {1: "half", 2: "more"}, 2.0)
    assert not pace.too_slow(99 * limits.BLOCK, {1: "more", 2: "the next"}, end)
    assert not pace.too_slow(199 * limits.BLOCK, {2: "the next"}, end + 1)
    assert pace.too_slow(299 * limits.BLOCK, {2: "the next"}, end + limits.ROOM_TIME)
    pace.rest()
    assert not pace.too_slow(299 * limits.BLOCK, {2: "the next"}, end + limits.ROOM_TIME)
