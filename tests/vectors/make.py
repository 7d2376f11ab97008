"""Write the vectors in this folder: `python tests/vectors/make.py`.

Valid frames come from our own encoder, invalid ones are put together by hand. A test compares what is here with what
this would write, so a change of the wire cannot go unnoticed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ftx import limits
from ftx.core.approval import Asker, Waiter
from ftx.core.blocks import block_count, block_digest, block_length, file_digest
from ftx.core.pairing import Binding, PairingClient, PairingServer
from ftx.core.receipt import line
from ftx.wire import messages
from ftx.wire.frames import Encoding, FrameType, copy_frame, data_frames, feature_of, frame

__all__ = ["FOLDER", "approval", "content", "files", "pairing", "session"]

FOLDER = Path(__file__).parent
JOB = bytes(range(16))
SENDER, RECEIVER = b"C" * 32, b"S" * 32
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
MTIME = 1_700_000_000_000_000_000
BLOCK_DIGEST = block_digest([b"hello"])
FILE_DIGEST = file_digest(5, [BLOCK_DIGEST])

Vector = tuple[str, str, str, str, bytes]

VALID: list[tuple[str, str, messages.Message]] = [
    ("hello-client", "the first frame of a client", messages.Hello("ftx", 1, 1, [], "desk", "ftx 0.1.0", False)),
    ("hello-server", "the answer to a known client", messages.Hello("ftx", 1, 1, [], "attic", "ftx 0.1.0", True)),
    (
        "hello-future",
        "a peer of a later version, with features and as much text as there may be",
        messages.Hello("ftx", 1, 255, ["steer", "x" * 32], "é" * 64, "s" * 64, False),
    ),
    ("error", "the server does not know the key", messages.ErrorMessage(501)),
    ("goodbye", "a clean end", messages.Goodbye()),
    ("ping", "are you there?", messages.Ping(0)),
    ("pong", "yes; the largest token", messages.Pong(2**63 - 1)),
    ("offer", "a job of unknown size, into the inbox itself", messages.Offer(JOB, 0, [], None, None, None, None)),
    ("offer-into", "into a folder, with a ceiling", messages.Offer(JOB, 0, [b"in", b"here"], 2, 1, 0, 5)),
    ("accept", "the usual windows", messages.Accept(JOB, 2048, 4096, 2, 0)),
    ("refuse", "busy with the same job", messages.Refuse(JOB, 605)),
    ("totals", "what the sender counted", messages.Totals(1, 0, 5)),
    (
        "manifest",
        "a file, and a folder with a file in it; names are bytes",
        messages.Manifest(
            [
                messages.FileEntry(0, [b"a.txt"], 5, MTIME, 0o644),
                messages.FolderEntry(1, [b"b"]),
                messages.FileEntry(2, [b"b", b"\xff"], 2**63 - 1, -1, 0),
                messages.FolderEnd(1, 0o755, MTIME),
            ],
            True,
        ),
    ),
    (
        "manifest-digest",
        "a file with its digest",
        messages.Manifest([messages.DigestedEntry(0, [b"a.txt"], 5, MTIME, 0o644, FILE_DIGEST)], True),
    ),
    (
        "manifest-stream",
        "a file of unknown size",
        messages.Manifest([messages.PipeEntry(0, [b"a.tar"], MTIME, 0o644)], True),
    ),
    (
        "manifest-symlink",
        "a symbolic link, behind everything else",
        messages.Manifest([messages.SymlinkEntry(2, [b"a", b"b"], b"../a/c", MTIME)], True),
    ),
    ("manifest-empty", "the last manifest frame may be empty", messages.Manifest([], True)),
    ("needs-all", "all of a file", messages.Needs([messages.WantAll(0)])),
    (
        "needs-group",
        "of a file of ten blocks, block 0 and block 9; of another, nothing but its end",
        messages.Needs([messages.WantGroup(0, 0, b"\x01\x02", True), messages.WantGroup(1, 0, b"\x00", True)]),
    ),
    ("needs-again", "a block once more, which did not verify", messages.Needs([messages.WantAgain(0, 9)])),
    ("basis", "of an older copy the first two blocks", messages.Basis(0, 0, BLOCK_DIGEST + bytes(32))),
    ("entry-failed", "the file changed while it was read", messages.EntryFailed(0, 303)),
    ("entry-end", "all blocks asked for are sent", messages.EntryEnd(0, 5, FILE_DIGEST)),
    (
        "results",
        "one of each kind",
        messages.Results(
            [
                messages.Stored(0, FILE_DIGEST, [b"a (1).txt"]),
                messages.Stored(1, b"", None),
                messages.Identical(2, FILE_DIGEST, None),
                messages.Skipped(3),
                messages.Failed(4, 606),
            ]
        ),
    ),
    ("results-wanted", "would be asked for, in a dry run", messages.Results([messages.Wanted(0)])),
    ("offer-dry", "what would a push do?", messages.Offer(JOB, 2, [], None, None, None, None)),
    ("progress", "all is verified, nothing is on the disk yet", messages.ProgressMessage(5, 0, 1)),
    ("end", "one file of five bytes", messages.End(1, 0, 5, bytes(32))),
    ("waiting", "somebody is asked for two minutes; a commitment", messages.Waiting(JOB, 120, bytes(32))),
    ("reveal", "the sender's nonce", messages.Reveal(JOB, bytes(32))),
    ("pair-start", "side A of SPAKE2; not an element", messages.PairStart(b"A" + bytes(32))),
    ("pair-reply", "side B of SPAKE2; not an element", messages.PairReply(b"B" + bytes(32))),
    ("pair-confirm", "the client's proof, and the port of its daemon", messages.PairConfirm(bytes(32), 7389)),
    ("pair-done", "the server's proof", messages.PairDone(bytes(32))),
    ("offer-pull", "a server's answer to a request", messages.Offer(JOB, 1, [], None, None, None, None)),
    ("list", "which shares are there?", messages.List(JOB, [], False)),
    ("list-deep", "what is in this folder, and below it?", messages.List(JOB, [b"photos", b"2026"], True)),
    (
        "listing",
        "one of each kind, and a folder that cannot be read",
        messages.Listing(
            JOB,
            [
                messages.Item(messages.ItemKind.FILE, [b"a.txt"], 5, MTIME, 0o644, 0),
                messages.Item(messages.ItemKind.FOLDER, [b"b"], 0, MTIME, 0o755, 0),
                messages.Item(messages.ItemKind.FOLDER, [b"b", b"\xff"], 0, MTIME, 0, 302),
                messages.Item(messages.ItemKind.LINK, [b"c"], 0, MTIME, 0o777, 0),
                messages.Item(messages.ItemKind.OTHER, [b"d"], 0, -1, 0o600, 0),
            ],
            False,
        ),
    ),
    (
        "listing-shares",
        "the shares, and no more",
        messages.Listing(JOB, [messages.Item(messages.ItemKind.SHARE, [b"photos"], 0, MTIME, 0o755, 0)], True),
    ),
    ("request", "two things of a share", messages.Request(JOB, [[b"photos", b"a"], [b"photos", b"b"]], [], 0)),
    ("request-links", "links, as they are", messages.Request(JOB, [[b"photos"]], [], 2)),
    ("request-exclude", "all of a share but these", messages.Request(JOB, [[b"photos"]], ["*.tmp", "/b/"], 0)),
    (
        "omitted",
        "a file that cannot be read, and a socket",
        messages.Omitted([messages.Omission([b"a", b"b"], 302), messages.Omission([b"a", b"c"], 305)]),
    ),
    ("pause", "send no content for now", messages.Pause(JOB)),
    ("resume", "go on", messages.Resume(JOB)),
    ("cancel", "a receiver that keeps one file of five bytes", messages.Cancel(JOB, 1, 5)),
    ("join", "the third lane of a job", messages.Join(JOB, 3, bytes(range(32)))),
    ("joined", "it is one, and the client sends", messages.Joined(JOB, True)),
    ("probe", "let me send you 16 MiB", messages.Probe(JOB, messages.ProbeKind.UP, limits.PROBE)),
    ("probe-disk", "how fast is your disk?", messages.Probe(JOB, messages.ProbeKind.DISK, 1)),
    ("probe-ready", "send", messages.ProbeReady(JOB)),
    ("probe-end", "that was all of 16 MiB", messages.ProbeEnd(JOB, limits.PROBE)),
    (
        "probe-done",
        "16 MiB in 151 ms, and what was seen of them",
        messages.ProbeDone(JOB, limits.PROBE, 151_000, 60_000, 20_000_000, 3, 65_536, 420, 7_000, MTIME),
    ),
]
#: What the exchange of `pairing.vector` starts from.
PAIRING_CODE = "7-acorn-willow"
PAIRING_BINDING = Binding(SENDER, RECEIVER, b"X" * 32)


def _raw(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">IB", len(body) if length is None else length, kind) + body


def _packed(kind: FrameType, *fields: object) -> bytes:
    return frame(kind, msgspec.msgpack.encode(list(fields)))


def _data(tail: bytes, *, encoding: int = 0, flags: int = 1) -> bytes:
    return _raw(0x16, struct.pack(">IQBB", 0, 0, encoding, flags) + tail)


def _zstd() -> bytes:
    """A frame put together by hand (RFC 8878): one run of 200 bytes."""
    packed = bytes.fromhex("28b52ffd20c843060061")
    return b"".join(data_frames(0, 0, packed, block_digest([b"a" * 200]), encoding=Encoding.ZSTD))


def _valid() -> Iterator[Vector]:
    for name, about, message in VALID:
        stage = "before" if isinstance(message, messages.Hello | messages.ErrorMessage) else "after"
        yield name, about, "ok", "pairing" if name.startswith("pair-") else stage, messages.encode(message)
    body, signature = _receipt(bytes(32))
    yield "receipt", "the receiver's signed sum", "ok", "after", messages.encode(messages.Receipt(body, signature))
    hello = b"".join(data_frames(0, 0, b"hello", BLOCK_DIGEST))
    yield "data", "a block of five bytes in one piece", "ok", "after", hello
    yield "data-piece", "a piece that is not the last of its block", "ok", "after", _data(b"hel", flags=0)
    yield "data-empty", "the block of an empty file", "ok", "after", b"".join(data_frames(0, 0, b"", block_digest([])))
    zero = b"".join(data_frames(0, 0, b"", block_digest([bytes(limits.BLOCK)]), zero=True))
    yield "data-zero", "a block of zeros", "ok", "after", zero
    copy = copy_frame(0, 1, limits.BLOCK, limits.BLOCK, BLOCK_DIGEST)
    yield "data-copy", "the second block of the older copy, unchanged", "ok", "after", copy
    yield "data-zstd", "two hundred times the letter a, as one zstd frame", "ok", "after", _zstd()
    yield "ping-long", "integers need not be in their shortest form", "ok", "after", _raw(4, b"\x91\xcf" + bytes(8))


def _invalid() -> Iterator[Vector]:
    file = [0, 0, [b"a"], 5, MTIME, 0o644]
    digest = bytes(32)
    long = [b"x" * 240] * 16 + [b"x" * 241]
    piece = struct.pack(">IQBB", 0, 0, 0, 0)
    cases = [
        ("unknown-type", "no such frame", "unknown-frame", "after", _raw(0x7F, b"")),
        ("reserved-type", "pack, whose feature is not built", "unknown-frame", "after", _raw(0x28, b"\x90")),
        ("hello-too-large", "4,097 bytes", "frame-too-large", "before", _raw(1, b"", 4097)),
        ("manifest-too-large", "65,537 bytes", "frame-too-large", "after", _raw(0x14, b"", 65_537)),
        ("totals-too-large", "16,385 bytes", "frame-too-large", "after", _raw(0x13, b"", 16_385)),
        ("data-too-large", "131,119 bytes", "frame-too-large", "after", _raw(0x16, b"", 131_119)),
        ("ping-early", "before sign-in", "wrong-state", "before", messages.encode(messages.Ping(0))),
        ("hello-features", "33 features", _packed(FrameType.HELLO, "ftx", 1, 1, ["x"] * 33, "", "", False)),
        ("hello-name", "a name of 65 characters", _packed(FrameType.HELLO, "ftx", 1, 1, [], "x" * 65, "", False)),
        ("hello-utf8", "a name that is not UTF-8", _raw(1, b"\x97\xa3ftx\x01\x01\x90\xa1\xff\xa0\xc2")),
        ("error-number", "an error of no family", _packed(FrameType.ERROR, 99)),
        ("goodbye-more", "a field more than agreed", _packed(FrameType.GOODBYE, None)),
        ("ping-behind", "a byte behind the array", _raw(4, b"\x91\x00\x00")),
        ("ping-negative", "a token below zero", _packed(FrameType.PING, -1)),
        ("pong-float", "a number that is not an integer", _packed(FrameType.PONG, 1.0)),
        ("ping-map", "a map where an array belongs", _raw(4, b"\x81\x00\x00")),
        ("offer-job", "a job id of 15 bytes", _packed(FrameType.OFFER, JOB[:15], 0, [], None, None, None, None)),
        ("offer-kind", "no such kind", _packed(FrameType.OFFER, JOB, 3, [], None, None, None, None)),
        ("offer-conflict", "no such policy", _packed(FrameType.OFFER, JOB, 0, [], 5, None, None, None)),
        ("offer-into", "up and away", "bad-name", "after", _packed(FrameType.OFFER, JOB, 0, [b".."], *[None] * 4)),
        ("accept-window", "a window smaller than a frame", _packed(FrameType.ACCEPT, JOB, 511, 4096, 2, 0)),
        ("refuse-short", "a field is missing", _packed(FrameType.REFUSE, JOB)),
        ("totals-range", "2^63", _packed(FrameType.TOTALS, 2**63, 0, 0)),
        ("manifest-nested", "arrays in arrays", _raw(0x14, b"\x91" * 1000)),
        ("manifest-huge", "claims four billion entries", _raw(0x14, b"\x92\xdd\xff\xff\xff\xff\xc3")),
        ("manifest-many", "513 entries", _packed(FrameType.MANIFEST, [[2, 0, 0, 0]] * 513, False)),
        ("manifest-tag", "an entry of no kind", _packed(FrameType.MANIFEST, [[9, 0, [b"a"]]], True)),
        ("manifest-link-top", "a link at the top", _packed(FrameType.MANIFEST, [[3, 0, [b"a"], b"b", 0]], True)),
        ("manifest-link-empty", "a link to nothing", _packed(FrameType.MANIFEST, [[3, 0, [b"a", b"b"], b"", 0]], True)),
        ("manifest-link-name", "..", "bad-name", "after",
         _packed(FrameType.MANIFEST, [[3, 0, [b"a", b".."], b"b", 0]], True)),
        ("manifest-pipe", "a file without a size", _packed(FrameType.MANIFEST, [[*file[:3], None, 0, 0]], True)),
        ("manifest-mode", "set-user-id", _packed(FrameType.MANIFEST, [[*file[:5], 0o4755]], True)),
        ("manifest-digest", "a digest of 31 bytes", _packed(FrameType.MANIFEST, [[4, *file, digest[:31]]], True)),
        ("manifest-text", "a name that is text, not bytes", _packed(FrameType.MANIFEST, [[1, 0, ["a"]]], True)),
        ("manifest-name", "a name of 256 bytes", _packed(FrameType.MANIFEST, [[1, 0, [b"x" * 256]]], True)),
        ("manifest-deep", "65 components", _packed(FrameType.MANIFEST, [[1, 0, [b"x"] * 65]], True)),
        ("manifest-dots", "..", "bad-name", "after", _packed(FrameType.MANIFEST, [[1, 0, [b"a", b".."]]], True)),
        ("manifest-slash", "a/b", "bad-name", "after", _packed(FrameType.MANIFEST, [[1, 0, [b"a/b"]]], True)),
        ("manifest-nul", "a NUL", "bad-name", "after", _packed(FrameType.MANIFEST, [[1, 0, [b"a\0b"]]], True)),
        ("manifest-long", "4,097 bytes", "bad-name", "after", _packed(FrameType.MANIFEST, [[1, 0, long]], True)),
        ("needs-none", "asks for nothing", _packed(FrameType.NEEDS, [])),
        ("needs-bitmap", "a bitmap of 1,025 bytes", _packed(FrameType.NEEDS, [[1, 0, 0, bytes(1025), True]])),
        ("needs-again", "a block below zero", _packed(FrameType.NEEDS, [[2, 0, -1]])),
        ("basis-digests", "a digest of 31 bytes", _packed(FrameType.BASIS, 0, 0, digest[:31])),
        ("basis-first", "a block that is never on offer", _packed(FrameType.BASIS, 0, 131_072, digest)),
        ("entry-failed-number", "an entry below zero", _packed(FrameType.ENTRY_FAILED, -1, 303)),
        ("entry-end-digest", "a digest of 31 bytes", _packed(FrameType.ENTRY_END, 0, 5, digest[:31])),
        ("results-none", "no result", _packed(FrameType.RESULTS, [])),
        ("results-digest", "a digest of 33 bytes", _packed(FrameType.RESULTS, [[0, 0, bytes(33), None]])),
        ("results-name", "..", "bad-name", "after", _packed(FrameType.RESULTS, [[0, 0, digest, [b".."]]])),
        ("progress-stage", "no such stage", _packed(FrameType.PROGRESS, 0, 0, 2)),
        ("end-transcript", "no transcript", _packed(FrameType.END, 0, 0, 0, b"")),
        ("pause-job", "a job id of 17 bytes", _packed(FrameType.PAUSE, JOB + b"x")),
        ("resume-nothing", "no job", _packed(FrameType.RESUME)),
        ("cancel-negative", "fewer than no files", _packed(FrameType.CANCEL, JOB, -1, 0)),
        ("receipt-signature", "a signature of 63 bytes", _packed(FrameType.RECEIPT, b"", bytes(63))),
        ("list-path", "up and away", "bad-name", "after", _packed(FrameType.LIST, JOB, [b"a", b".."], False)),
        ("listing-kind", "no such kind", _packed(FrameType.LISTING, JOB, [[5, [b"a"], 0, 0, 0, 0]], True)),
        ("listing-path", "an empty name", _packed(FrameType.LISTING, JOB, [[0, [b""], 0, 0, 0, 0]], True)),
        ("listing-slash", "a/b", "bad-name", "after", _packed(FrameType.LISTING, JOB, [[0, [b"/"], 0, 0, 0, 0]], True)),
        ("request-none", "nothing", _packed(FrameType.REQUEST, JOB, [], [], 0)),
        ("request-links", "links 3", _packed(FrameType.REQUEST, JOB, [[b"a"]], [], 3)),
        ("request-root", "an empty path", _packed(FrameType.REQUEST, JOB, [[]], [], 0)),
        ("request-path", ".", "bad-name", "after", _packed(FrameType.REQUEST, JOB, [[b"a", b"."]], [], 0)),
        ("request-many", "65 patterns", _packed(FrameType.REQUEST, JOB, [[b"a"]], ["*"] * 65, 0)),
        ("omitted-none", "nothing", _packed(FrameType.OMITTED, [])),
        ("omitted-error", "no reason", _packed(FrameType.OMITTED, [[[b"a"], 0]])),
        ("data-short", "shorter than its header", _raw(0x16, bytes(13))),
        ("data-nothing", "neither content nor a last piece", _data(b"", flags=0)),
        ("data-digest", "a last piece without a whole digest", _data(digest[:31])),
        ("data-copy", "an encoding that is reserved", _data(b"x" + digest, encoding=2)),
        ("data-zstd", "compressed, and nobody had agreed to that", _zstd()),
        ("data-flag", "a flag that is reserved", _data(b"x" + digest, flags=3)),
        ("data-zero-content", "a zero run with content", _data(b"x" + digest, encoding=1)),
        ("data-zero-piece", "a zero run that is not a last piece", _data(b"", encoding=1, flags=0)),
        ("waiting-seconds", "more than an hour", _packed(FrameType.WAITING, JOB, 3601, digest)),
        ("waiting-value", "no commitment", _packed(FrameType.WAITING, JOB, 60, b"")),
        ("reveal-nonce", "a nonce of 31 bytes", _packed(FrameType.REVEAL, JOB, digest[:31])),
        ("pair-start-short", "an element of 32 bytes", _packed(FrameType.PAIR_START, bytes(32))),
        ("pair-start-long", "an element of 34 bytes", _packed(FrameType.PAIR_START, bytes(34))),
        ("pair-start-empty", "no element", _packed(FrameType.PAIR_START, b"")),
        ("pair-start-huge", "10,000 bytes", "frame-too-large", "pairing", _raw(0x40, b"", 10_000)),
        ("pair-start-late", "after sign-in", "wrong-state", "after", _packed(FrameType.PAIR_START, bytes(33))),
        ("pair-reply-short", "an element of one byte", _packed(FrameType.PAIR_REPLY, b"B")),
        ("pair-confirm-port", "a port beyond 65,535", _packed(FrameType.PAIR_CONFIRM, digest, 65_536)),
        ("pair-confirm-proof", "a proof of 31 bytes", _packed(FrameType.PAIR_CONFIRM, digest[:31], 0)),
        ("pair-done-proof", "no proof", _packed(FrameType.PAIR_DONE, b"")),
        ("pair-offer", "an offer in stage pairing", "wrong-state", "pairing", _packed(FrameType.OFFER, JOB)),
        ("join-number", "a lane with the number 8", _packed(FrameType.JOIN, JOB, 8, bytes(32))),
        ("join-proof", "a proof of 31 bytes", _packed(FrameType.JOIN, JOB, 1, bytes(31))),
        ("joined-up", "neither true nor false", _packed(FrameType.JOINED, JOB, 1)),
        ("probe-kind", "no such kind", _packed(FrameType.PROBE, JOB, 3, 1)),
        ("probe-bytes", "more than 16 MiB", _packed(FrameType.PROBE, JOB, 0, limits.PROBE + 1)),
        ("probe-nothing", "no bytes", _packed(FrameType.PROBE, JOB, 0, 0)),
        ("probe-ready-job", "a job id of 15 bytes", _packed(FrameType.PROBE_READY, JOB[:15])),
        ("probe-end-bytes", "fewer than no bytes", _packed(FrameType.PROBE_END, JOB, -1)),
        ("probe-done-time", "a time that is no integer", _packed(FrameType.PROBE_DONE, JOB, *[0] * 8, None)),
        ("probe-done-short", "a field is missing", _packed(FrameType.PROBE_DONE, JOB, *[0] * 8)),
        ("data-piece", "a piece of more than 128 KiB", _raw(0x16, piece, 14 + limits.PIECE + 1)),
    ]
    for case in cases:
        if len(case) == 3:
            early = "before" if case[0].startswith(("hello", "error")) else "after"
            stage = "pairing" if case[0].startswith("pair-") else early
            case = (case[0], case[1], "bad-message", stage, case[2])
        name, about, error, stage, wire = case
        yield f"bad-{name}", about, f"error {error}", stage, wire


def _receipt(transcript: bytes) -> tuple[bytes, bytes]:
    body = messages.encode_receipt_body(
        messages.ReceiptBody(JOB, SENDER, RECEIVER, 1, 2, 1, 0, 0, 0, 0, 5, 0, transcript)
    )
    return body, KEY.sign(b"ftx receipt v1\0" + body)


def session() -> list[tuple[str, str, bytes]]:
    """The session of section 14: who, what, and the bytes of each frame."""
    path = [b"a.txt"]
    transcript = block_digest([line("stored", 5, FILE_DIGEST, path, path)])
    body, signature = _receipt(transcript)
    said: list[tuple[str, messages.Message]] = [
        ("C", messages.Hello("ftx", 1, 1, [], "desk", "ftx 0.1.0", False)),
        ("S", messages.Hello("ftx", 1, 1, [], "attic", "ftx 0.1.0", True)),
        ("C", messages.Offer(JOB, 0, [], None, None, None, None)),
        ("S", messages.Accept(JOB, 2048, 4096, 2, 0)),
        ("C", messages.Totals(1, 0, 5)),
        ("C", messages.Manifest([messages.FileEntry(0, path, 5, MTIME, 0o644)], True)),
        ("S", messages.Needs([messages.WantAll(0)])),
        ("S", messages.Results([messages.Stored(0, FILE_DIGEST, None)])),
        ("C", messages.End(1, 0, 5, transcript)),
        ("S", messages.Receipt(body, signature)),
        ("C", messages.Goodbye()),
    ]
    frames = [(who, FrameType(messages.encode(m)[4]).name.lower(), messages.encode(m)) for who, m in said]
    frames.insert(7, ("C", "data", b"".join(data_frames(0, 0, b"hello", BLOCK_DIGEST))))
    return frames


def pairing() -> list[tuple[str, messages.Message]]:
    """The exchange of section 15, with the random numbers that `pairing.vector` states."""
    client = PairingClient(PAIRING_CODE, PAIRING_BINDING, lambda size: b"c" * size)
    server = PairingServer(PAIRING_CODE, PAIRING_BINDING, lambda size: b"s" * size)
    start = client.start()
    reply = server.reply(start)
    confirm = client.confirm(reply, 7389)
    server.verify(confirm)
    done = server.done()
    client.finish(done)
    return [("C", start), ("S", reply), ("C", confirm), ("S", done)]


def approval() -> tuple[list[tuple[str, messages.Message]], str]:
    """The exchange of section 18 with the nonces that `approval.vector` states, and its phrase."""
    asker, waiter = Asker(JOB, SENDER, RECEIVER, b"r" * 32), Waiter(JOB, SENDER, RECEIVER, b"s" * 32)
    first = asker.commit(120)
    reveal = waiter.waiting(first)
    if reveal is None:
        raise ValueError("the sender did not answer")
    second = asker.revealed(reveal, 119)
    waiter.waiting(second)
    if waiter.phrase is None or waiter.phrase != asker.phrase:
        raise ValueError("the phrases differ")
    return [("S", first), ("C", reveal), ("S", second)], waiter.phrase


def content(kind: str, size: int) -> bytes:
    """The content of a file that `digests.vector` names."""
    return bytes(size) if kind == "zeros" else (bytes(range(251)) * (size // 251 + 1))[:size]


def _digests() -> str:
    lines = []
    for kind, size in [
        ("zeros", 0),
        ("zeros", 1),
        ("counting", 5),
        ("counting", 4096),
        ("counting", limits.BLOCK),
        ("counting", limits.BLOCK + 1),
        ("zeros", 3 * limits.BLOCK),
        ("counting", 5 * limits.BLOCK + 12_345),
    ]:
        data = content(kind, size)
        starts = [index * limits.BLOCK for index in range(block_count(size))]
        parts = [data[start : start + block_length(size, start // limits.BLOCK)] for start in starts]
        lines.append(f"{size} {kind} {file_digest(size, [block_digest([part]) for part in parts]).hex()}")
    return "about: file digests, docs/protocol.md section 6\n\n" + "\n".join(lines) + "\n"


def _hex(wire: bytes) -> str:
    digits = wire.hex()
    return "".join(digits[start : start + 64] + "\n" for start in range(0, len(digits), 64))


def files() -> dict[str, str]:
    """The name and the text of every file."""
    found = {}
    by_name = {name: message for name, _, message in VALID}
    for name, about, expect, stage, wire in [*_valid(), *_invalid()]:
        header = f"about: {about}\nexpect: {expect}\nstage: {stage}\n"
        feature = feature_of(wire[4]) if wire[4] in list(FrameType) else ""
        feature = feature or {"data-zstd": "zstd", "data-copy": "delta"}.get(name, "")
        if feature:
            header += f"feature: {feature}\n"
        if name in by_name:
            header += f"message: {by_name[name]!r}\n"
        found[f"{name}.vector"] = f"{header}\n{_hex(wire)}"
    body = "".join(f"{who} {kind}\n{_hex(wire)}" for who, kind, wire in session())
    found["session.vector"] = f"about: the session of docs/protocol.md section 14\nexpect: ok\n\n{body}"
    found["digests.vector"] = _digests()
    head = (
        f"about: the exchange of docs/protocol.md section 15\nexpect: ok\ncode: {PAIRING_CODE}\n"
        f"client: {SENDER.hex()}\nserver: {RECEIVER.hex()}\nexporter: {PAIRING_BINDING.exporter.hex()}\n\n"
    )
    exchange = [(who, messages.encode(message)) for who, message in pairing()]
    found["pairing.vector"] = head + "".join(
        f"{who} {FrameType(wire[4]).name.lower()}\n{_hex(wire)}" for who, wire in exchange
    )
    said, words = approval()
    head = (
        f"about: the exchange of docs/protocol.md section 18\nexpect: ok\nsender: {SENDER.hex()}\n"
        f"receiver: {RECEIVER.hex()}\nr: {(b'r' * 32).hex()}\ns: {(b's' * 32).hex()}\nphrase: {words}\n\n"
    )
    waits = [(who, messages.encode(message)) for who, message in said]
    found["approval.vector"] = head + "".join(
        f"{who} {FrameType(wire[4]).name.lower()}\n{_hex(wire)}" for who, wire in waits
    )
    return found


def main() -> None:
    """Write all of them, and remove those that are no longer made."""
    made = files()
    for old in FOLDER.glob("*.vector"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
