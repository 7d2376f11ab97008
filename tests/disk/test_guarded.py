"""What stands between a job and the inbox: files are judged first, and a quota counts what came, across restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftx.core.blocks import block_digest, file_digest
from ftx.core.rights import Rights
from ftx.disk.guarded import Account, Guarded
from ftx.disk.inbox import Inbox
from ftx.disk.ledger import Ledger
from ftx.disk.store import Failed, FileEntry, FolderEntry, Have, LinkEntry, Made, PipeEntry, Refuse, Stored, Want, Whole
from ftx.errors import FtxError
from ftx.limits import BLOCK

PEER, JOB = b"p" * 32, b"j" * 16
DAY = "2026-11-22"


def _entry(number: int, name: bytes, size: int = 3) -> FileEntry:
    return FileEntry(number, (name,), size, 10**18, 0o644)


def _whole(number: int, content: bytes) -> Whole:
    return Whole(number, [content], block_digest([content]))


class _Place:
    """An inbox with a guard in front of it."""

    def __init__(self, folder: Path, rights: Rights) -> None:
        (folder / "inbox").mkdir(mode=0o700, exist_ok=True)
        (folder / "state").mkdir(mode=0o700, exist_ok=True)
        self.rights = rights
        self.inbox = Inbox.open(str(folder / "inbox"))
        self.ledger = Ledger(str(folder / "state" / "quota.json"))

    def job(self, job: bytes = JOB) -> Guarded:
        account = Account(self.ledger, PEER, lambda: DAY, lambda: self.rights)
        return Guarded(self.inbox.begin(PEER, job, (), "rename"), _judge, account)


def _judge(entry: FileEntry) -> tuple[str, str]:
    return ("refused", "no programs") if entry.path[-1].endswith(b".exe") else ("", "")


def test_files_are_judged_in_their_place(tmp_path: Path) -> None:
    """Answers come in the order of the entries, refused ones among them, and nothing is made of those."""
    place = _Place(tmp_path, Rights())
    job = place.job()
    entries = [_entry(0, b"a.exe"), _entry(1, b"a"), FolderEntry(2, (b"b.exe",)), _entry(3, b"c.exe")]
    assert job.look_up(entries) == [Refuse(0, "refused"), Want(1, None), Made(2), Refuse(3, "refused")]
    assert job.look_up([_entry(4, b"d.exe")]) == [Refuse(4, "refused")]
    assert job.refused == {"no programs": 3}
    job.close()
    place.inbox.close()


def test_a_batch_that_passes_is_not_judged_file_by_file(tmp_path: Path) -> None:
    """As long as that is so: it is asked anew for each batch. What a quota has to count is counted all the same."""
    place = _Place(tmp_path, Rights())
    account = Account(place.ledger, PEER, lambda: DAY, lambda: place.rights)
    passing = True
    judged: list[int] = []

    def judge(entry: FileEntry) -> tuple[str, str]:
        judged.append(entry.number)
        return _judge(entry)

    job = Guarded(place.inbox.begin(PEER, JOB, (), "rename"), judge, account, lambda: passing)
    assert job.look_up([_entry(0, b"a.exe"), PipeEntry(1, (b"p",), 1, 0o644)]) == [Want(0, None), Want(1, None)]
    assert judged == []
    passing = False
    assert job.look_up([_entry(2, b"b.exe"), _entry(3, b"b")]) == [Refuse(2, "refused"), Want(3, None)]
    assert judged == [2, 3]
    passing, place.rights = True, Rights(files_per_day=1)
    assert job.look_up([_entry(4, b"c"), _entry(5, b"d")]) == [Want(4, None), Refuse(5, "quota")]
    job.close()
    place.inbox.close()


def test_links_are_judged_and_charged_as_files(tmp_path: Path) -> None:
    """By their names, as files as large as their targets; what was there already is given back."""
    place = _Place(tmp_path, Rights(files_per_day=2))
    job = place.job()
    job.look_up([FolderEntry(0, (b"t",))])
    links = [LinkEntry(1, (b"t", b"a.exe"), b"x", 1), *(LinkEntry(n, (b"t", b"%d" % n), b"x", 1) for n in (2, 3, 4))]
    outcomes = job.make_links(links)
    assert [getattr(outcome, "error", "") for outcome in outcomes] == ["refused", "", "", "quota"]
    assert isinstance(job.make_links([LinkEntry(5, (b"t", b"2"), b"x", 1)])[0], Failed)
    job.close()
    place.rights = Rights(files_per_day=3)
    again = place.job(b"k" * 16)
    assert [type(outcome) for outcome in again.make_links(links[1:])] == [Have, Have, Stored]
    again.close()
    assert sorted(path.name for path in (tmp_path / "inbox" / "t").iterdir()) == ["2", "3", "4"]
    place.inbox.close()


def test_a_file_of_unknown_size_is_judged_as_the_largest(tmp_path: Path) -> None:
    """A rule about sizes counts for it, and with a quota of bytes it is not taken at all."""
    place = _Place(tmp_path, Rights())
    account = Account(place.ledger, PEER, lambda: DAY, lambda: place.rights)
    sizes: list[int] = []

    def judge(entry: FileEntry) -> tuple[str, str]:
        sizes.append(entry.size)
        return "", ""

    job = Guarded(place.inbox.begin(PEER, JOB, (), "rename"), judge, account)
    assert job.look_up([PipeEntry(0, (b"a",), 1, 0o644)]) == [Want(0, None)]
    assert sizes == [2**63 - 1]
    place.rights = Rights(bytes_per_day=10**12)
    assert job.look_up([PipeEntry(1, (b"b",), 1, 0o644)]) == [Refuse(1, "quota")]
    place.rights = Rights(files_per_day=1)
    assert job.look_up([PipeEntry(2, (b"c",), 1, 0o644), PipeEntry(3, (b"d",), 1, 0o644)]) == [
        Want(2, None),
        Refuse(3, "quota"),
    ]
    job.close()
    place.inbox.close()


def test_a_quota_of_files(tmp_path: Path) -> None:
    """Those that fit come, the next is refused; one that was not stored is given back; a restart forgets nothing."""
    place = _Place(tmp_path, Rights(files_per_day=2))
    job = place.job()
    answers = job.look_up([_entry(number, b"%d" % number) for number in range(3)])
    assert [type(answer) for answer in answers] == [Want, Want, Refuse]
    assert answers[2] == Refuse(2, "quota")
    assert isinstance(job.store_whole([_whole(0, b"abc")])[0], Stored)
    assert job.store_whole([Whole(1, [b"abc"], bytes(32))]) == [Failed(1, "digest-mismatch")]
    job.discard(1, False)
    assert place.ledger.used(PEER, DAY) == (3, 1)
    job.close()
    place.inbox.close()
    again = _Place(tmp_path, Rights(files_per_day=2))
    assert again.ledger.used(PEER, DAY) == (3, 1)
    job = again.job(b"k" * 16)
    assert [type(one) for one in job.look_up([_entry(0, b"x"), _entry(1, b"y")])] == [Want, Refuse]
    job.close()
    assert again.ledger.used(PEER, "2026-11-23") == (0, 0)
    again.inbox.close()


def test_a_quota_of_bytes_counts_what_came(tmp_path: Path) -> None:
    """Of a file that is cut, what came stays counted; when it is resumed only the rest is charged."""
    place = _Place(tmp_path, Rights(bytes_per_day=2 * BLOCK + 10))
    size = 2 * BLOCK
    job = place.job()
    assert job.look_up([_entry(0, b"large", size)]) == [Want(0, None)]
    assert place.ledger.used(PEER, DAY) == (size, 1)
    assert job.write_block(0, 0, None, block_digest([bytes(BLOCK)]))
    job.sync(0)
    job.close()
    assert place.ledger.used(PEER, DAY) == (BLOCK, 0)
    job = place.job(b"k" * 16)
    answer = job.look_up([_entry(0, b"large", size)])[0]
    assert isinstance(answer, Want)
    assert answer.held is not None
    assert answer.held.count == 1
    assert place.ledger.used(PEER, DAY) == (size, 1)
    assert job.write_block(0, 1, None, block_digest([bytes(BLOCK)]))
    assert isinstance(job.publish(0, file_digest(size, [block_digest([bytes(BLOCK)])] * 2)), Stored)
    assert job.look_up([_entry(1, b"more", 11), _entry(2, b"bit", 10)]) == [Refuse(1, "quota"), Want(2, None)]
    job.close()
    place.inbox.close()


def test_without_a_quota_nothing_is_counted(tmp_path: Path) -> None:
    """And a quota that is given while a job runs counts from then on."""
    place = _Place(tmp_path, Rights())
    job = place.job()
    job.look_up([_entry(0, b"a")])
    assert place.ledger.used(PEER, DAY) == (0, 0)
    place.rights = Rights(files_per_day=0)
    assert job.look_up([_entry(1, b"b")]) == [Refuse(1, "quota")]
    job.close()
    place.inbox.close()


@pytest.mark.parametrize("content", [b"", b"{", b'{"day":"x","used":{"a":{"bytes":-1}}}', b'{"day":1}', b"\xff"])
def test_a_damaged_account_is_used_up(tmp_path: Path, content: bytes) -> None:
    """What was used is not known, so nothing is left; the error names the file."""
    place = _Place(tmp_path, Rights(files_per_day=5))
    (tmp_path / "state" / "quota.json").write_bytes(content)
    (tmp_path / "state" / "quota.json").chmod(0o600)
    job = place.job()
    assert job.look_up([_entry(0, b"a")]) == [Refuse(0, "quota")]
    with pytest.raises(FtxError, match=r"quota\.json"):
        place.ledger.used(PEER, DAY)
    job.close()
    place.inbox.close()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.booleans()), max_size=30))
def test_an_account_is_never_overdrawn(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]]
) -> None:
    """Whatever is charged and given back, in whatever order: what is counted is what was granted, within bounds."""
    rights = Rights(bytes_per_day=100, files_per_day=5)
    folder = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(str(folder / "quota.json"))
    held: list[tuple[bytes, int]] = []
    for who, size, back in steps:
        peer = bytes([who]) * 32
        if back and held:
            one, amount = held.pop(0)
            ledger.give_back(one, DAY, amount, file=True)
        elif ledger.charge(peer, DAY, rights, size):
            held.append((peer, size))
        for key in {one for one, _ in held} | {peer}:
            mine = [amount for one, amount in held if one == key]
            assert ledger.used(key, DAY) == (sum(mine), len(mine))
            assert sum(mine) <= 100
            assert len(mine) <= 5
    ledger.save()
    assert Ledger(str(folder / "quota.json")).used(bytes(32), DAY) == ledger.used(bytes(32), DAY)
