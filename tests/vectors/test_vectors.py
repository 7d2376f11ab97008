"""The vectors on disk: what our encoder writes, what our decoder makes of them, and what the specification says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.decoding import check
from support.memory_disk import File, MemoryDisk
from support.pair import Pair
from vectors.make import FOLDER, content, files, session

from ftx.errors import kind
from ftx.wire.frames import BEFORE_SIGN_IN, WHILE_PAIRING, FrameDecoder, FrameType, Piece, after_sign_in, encodings
from ftx.wire.messages import decode

MADE = files()
FRAMES = sorted(set(MADE) - {"session.vector", "digests.vector", "pairing.vector", "approval.vector"})
SPECIFICATION = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_what_is_here_is_what_is_made() -> None:
    """A vector that changes is a change of the protocol; run make.py only if that is what you want."""
    assert {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.vector")} == MADE


def read(name: str) -> tuple[dict[str, str], bytes]:
    """Header and bytes of a vector file, as any other implementation would read them."""
    head, _, body = (FOLDER / name).read_text("utf-8").partition("\n\n")
    assert all(len(line) <= 64 for line in body.splitlines())
    return dict(line.split(": ", 1) for line in head.splitlines()), bytes.fromhex(body)


@pytest.mark.case("A4", "C60")
@pytest.mark.parametrize("name", FRAMES)
def test_each_vector_gives_what_its_header_says(name: str) -> None:
    """However it is cut."""
    header, wire = read(name)
    features = [header.get("feature", "")]
    bounds = {"before": BEFORE_SIGN_IN, "pairing": WHILE_PAIRING}.get(header["stage"], after_sign_in(features))
    if header["expect"] == "ok":
        decoder = FrameDecoder(bounds)
        decoder.encodings = encodings(features)
        decoder.feed(wire)
        item = decoder.next_item()
        assert item is not None
        if isinstance(item, Piece):
            expected: Any = (
                item.entry, item.block, item.encoding, b"".join(item.chunks), item.length, item.digest
            )  # fmt: skip
        else:
            expected = decode(item)
            assert header.get("message") in (None, repr(expected))
        check(wire, [expected], bounds=bounds, features=features)
    else:
        error = header["expect"].removeprefix("error ")
        assert kind(error).exit_code in (6, 8)
        check(wire, [], error, bounds)


def test_every_type_is_here_valid_and_invalid() -> None:
    """Section 14 promises it."""
    seen: dict[str, set[int]] = {"ok": set(), "error": set()}
    for name in FRAMES:
        header, wire = read(name)
        seen[header["expect"].split()[0]].add(wire[4])
    assert seen["ok"] == set(FrameType)
    assert seen["error"] >= set(FrameType)


def test_the_recorded_session() -> None:
    """The frames of section 14, in its order, are what our two ends say to each other."""
    pair = Pair([File((b"a.txt",), b"hello")], MemoryDisk(), orderly=True, features=()).run()
    assert pair.complete, pair.explain()
    recorded = session()
    for who, end in (("C", pair.client), ("S", pair.server)):
        ours = [(FrameType(frame[4]).name.lower(), frame) for frame in end.frames]
        # Between the stations where one end waits for the other, the order of its own frames is free.
        assert sorted(ours) == sorted((kind, wire) for origin, kind, wire in recorded if origin == who)
    example = SPECIFICATION.read_text("utf-8").split("## 14. Example")[1].split("## ")[0]
    assert re.findall(r"^([CS])  ([a-z-]+) ", example, re.MULTILINE) == [(who, kind) for who, kind, _ in recorded]


def reference() -> Any:
    """The reference implementation, cut out of the specification."""
    source = re.search(r"```python\n(.*?)```", SPECIFICATION.read_text("utf-8"), re.DOTALL)
    assert source is not None
    names: dict[str, Any] = {}
    exec(source[1], names)  # the ten lines of our own page
    return names["ftx_digest"]


def test_the_file_digests(tmp_path: Path) -> None:
    """What the ten lines in the specification compute, what the page itself states, and what our code computed."""
    page = SPECIFICATION.read_text("utf-8")
    body = (FOLDER / "digests.vector").read_text("utf-8").partition("\n\n")[2]
    digest_of = reference()
    for text in body.splitlines():
        size, kind_of_content, digest = text.split()
        path = tmp_path / "file"
        path.write_bytes(content(kind_of_content, int(size)))
        assert digest_of(path) == digest, text
        if size == "0":
            assert f"The empty file has `{digest}`" in page
    assert len(body.splitlines()) == 8
