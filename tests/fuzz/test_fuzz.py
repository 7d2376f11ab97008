"""Every parser, with anything: what hypothesis draws, what comes of damaged inputs that it understands, and the corpus.

`make fuzz` drives the same targets by coverage, with atheris, for as long as you like, and keeps what it finds under
`tests/fuzz/corpus`: each file there is an input that reached something new, or that once broke something.
"""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzz_targets import TARGETS

import ftx

CORPUS = Path(__file__).parent / "corpus"
#: Some targets run a whole session with its disk for each example.
EXAMPLES = 150


@pytest.mark.parametrize("name", TARGETS)
def test_what_it_understands(name: str) -> None:
    """Each seed by itself, cut at places all over it, and with single bits flipped; the same each time."""
    draw = random.Random(name)
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed)
        for _ in range(EXAMPLES):
            end = draw.randrange(len(seed) + 1)
            TARGETS[name].run(seed[:end])
            flipped = bytearray(seed)
            flipped[draw.randrange(len(seed))] ^= 1 << draw.randrange(8)
            TARGETS[name].run(bytes(flipped))


@pytest.mark.parametrize("name", TARGETS)
def test_anything(name: str) -> None:
    """Random bytes, and pieces of the seeds put together at random."""
    target = TARGETS[name]
    parts = [seed[start : start + 40] for seed in target.seeds() for start in range(0, len(seed), 13)]
    drawn = st.binary(max_size=400) | st.lists(st.sampled_from(parts) | st.binary(max_size=6), max_size=9).map(b"".join)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    @given(drawn)
    def run(data: bytes) -> None:
        target.run(data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    """Whatever was worth keeping."""
    for path in sorted((CORPUS / name).glob("*")):
        try:
            TARGETS[name].run(path.read_bytes())
        except BaseException as error:
            error.add_note(f"the input is {path}")
            raise


#: What reads bytes or text from outside, and the target that reaches it. A new decoder has to be added here.
REACHED = {
    "wire.announce.decode": "datagram",
    "wire.icmp.decode_icmp": "icmp",
    "wire.jsonlines.decode_request": "control",
    "wire.jsonlines.decode_reply": "reply",
    "wire.messages.decode": "message",
    "wire.messages.decode_receipt_body": "receipt-body",
    "core.receipt.decode_receipt": "kept-receipt",
    "core.receipt.parse_line": "receipt-line",
    "core.identity.parse_id": "identity",
    "client.target.parse_target": "target",
    "client.target.parse_folder": "target",
    "core.codes.parse_code": "rest",
    "core.rights.parse_hours": "rest",
    "core.bucket.parse_rate": "rest",
    "core.bucket.parse_timetable": "rest",
    "text.parse_size": "rest",
    "daemon.listen.parse_endpoint": "endpoint",
    "disk.keys.load": "key",
    "disk.peers.load": "peers",
    "daemon.config.load": "configuration",
}


def test_every_parser_has_a_target() -> None:
    """Public functions named decode…, parse… or load are in the table above, and the table has targets only."""
    package = Path(ftx.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.split("_")[0] in ("decode", "parse", "load"):
                found.add(f"{module}.{node.name}")
    found -= {"disk.keys.load_or_create"}  # load, and else a key of its own making
    assert found == set(REACHED)
    assert set(REACHED.values()) <= set(TARGETS)
