"""What is remembered of folders whose names are durable."""

from __future__ import annotations

from ftx.disk.tree import DurableNames
from ftx.limits import DURABLE_NAMES


def test_names_known_to_be_durable() -> None:
    """What is made while a sync is under way is not covered by it; and what is remembered is bounded."""
    names = DurableNames()
    begun = names.begin([(b"a", b"b"), (b"a", b"c")])
    assert begun == {(b"a",), (b"a", b"b"), (b"a", b"c")}
    names.make((b"a", b"b"), lambda: None)
    names.end(begun, durable=True)
    assert names.begin([(b"a", b"b"), (b"a", b"c")]) == {(b"a", b"b")}
    failed = names.begin([(b"d",)])
    names.end(failed, durable=False)
    assert names.begin([(b"d",)]) == {(b"d",)}
    many = names.begin([(b"%d" % number,) for number in range(DURABLE_NAMES)])
    names.end(many, durable=True)
    assert len(names.begin([(b"%d" % number,) for number in range(DURABLE_NAMES)])) == 0
    assert names.begin([(b"a",)]) == {(b"a",)}
