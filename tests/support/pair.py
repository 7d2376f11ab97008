"""A sender and a receiver, joined in memory: real sessions and machines, no socket, no clock.

The sender is the client, unless it is a pull: then the roles are swapped, and `client` is still the end that sends.

What a network and worker threads do is drawn from a seed: how the bytes are cut, and in which order what is under way
comes back. Work in one strand stays in order, as it does in the daemon; strands know nothing of each other. Bits can be
flipped on the way, and either direction can be cut off.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.memory_disk import File, Folder, Have, Link, Made, MemoryDisk, Refuse, Skip

from ftx import limits
from ftx.core import events
from ftx.core.blocks import BlockSet, block_count, block_digest
from ftx.core.links import in_force
from ftx.core.receiver import Receiver
from ftx.core.sender import Concluded, Sender
from ftx.core.session import Session, agree, error_frame, error_of
from ftx.core.stages import Role
from ftx.disk.packing import Packer, unpack
from ftx.errors import KINDS, FtxError, LocalProtocolError, ProtocolError
from ftx.wire import messages
from ftx.wire.frames import AFTER_SIGN_IN, Encoding, FrameDecoder, Piece, copy_frame, data_frames, encodings
from ftx.wire.messages import CONFLICTS, Accept, Goodbye, Hello, Message, Offer, Ping, Pong, Receipt, ReceiptBody

__all__ = ["CLIENT", "JOB", "SERVER", "Pair", "hello", "offer"]

JOB = bytes(range(16))
#: Stand for the two identities; what an identity is, is no matter of the machines.
CLIENT, SERVER = b"C" * 32, b"S" * 32
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_CONTEXT = b"ftx receipt v1\0"
#: Quiet quarters of a second after which nothing more can be expected: longer than any progress or sync is delayed.
_QUIET = 12
_CHUNKS = (1, 2, 5, 19, 300, 4096, 65536, 262144)


def hello(name: str, *, signed_in: bool = False, features: Sequence[str] = ()) -> Hello:
    """What an end says of itself."""
    return Hello("ftx", 1, 1, list(features), name, "ftx 0.1.0", signed_in)


def offer(into: Sequence[bytes] = (), conflict: int | None = None, kind: int = 0) -> Offer:
    """An offer of the fixed job."""
    return Offer(JOB, kind, list(into), conflict, None, None, None)


class _End:
    """What both ends have: a session, bytes sent, strands of work, and at most one error."""

    def __init__(self, pair: Pair, role: Role, name: str) -> None:
        self.pair = pair
        self.session = Session(role, hello(name, features=pair.features), pair.now)
        #: Everything ever sent.
        self.sent = bytearray()
        #: Frames that were sent, one by one; data frames as one item per block.
        self.frames: list[bytes] = []
        #: How the session ended, if not by a goodbye.
        self.error: FtxError | None = None
        self.resolved: list[events.Resolved] = []
        self.strands: dict[Hashable, deque[Callable[[], None]]] = {}

    def write(self, frame: bytes) -> None:
        self.sent += frame
        self.frames.append(bytes(frame))

    def send(self, message: Message) -> None:
        self.write(self.session.send(message, self.pair.now))

    def later(self, strand: Hashable, work: Callable[[], None]) -> None:
        self.strands.setdefault(strand, deque()).append(work)

    def work(self, strand: Hashable) -> None:
        """Let the oldest work of a strand come back."""
        queue = self.strands[strand]
        work = queue.popleft()
        if not queue:
            del self.strands[strand]
        self.guard(work)

    def arrive(self, data: bytes) -> None:
        """Bytes of the peer."""
        if not self.session.over:
            self.session.receive(data, self.pair.now)
            self.guard(self._events)

    def guard(self, action: Callable[[], None]) -> None:
        """Carry out `action`; an FtxError ends the session. Anything else is a bug and ends the test."""
        try:
            action()
            if not self.session.over:
                self.turn()
        except LocalProtocolError:
            raise
        except FtxError as error:
            self.error = error
            self.session.fail()
            self.write(error_frame(error, self.session.role))
        if self.session.over:
            self.strands.clear()

    def _events(self) -> None:
        while (event := self._next_event()) is not None:
            match event:
                case Ping():
                    self.send(Pong(event.token))
                case Goodbye():
                    pass
                case messages.ErrorMessage():
                    self.error = error_of(event)
                case _:
                    self.handle(event)

    def _next_event(self) -> Message | Piece | None:
        """The next event, when all small files before it were handed over: many at once, as a connection does it."""
        while isinstance(self.machine, Receiver) and (run := self.session.next_wholes(3)):
            while run:
                count = self.machine.wholes(run)
                for one in run[:count]:
                    content = b"".join(one.chunks)
                    self._perform([events.StoreWhole(one.number, one.chunks, len(content), one.digest)])
                for one in run[count : count + 1]:
                    content = b"".join(one.chunks)
                    piece = Piece(one.number, 0, Encoding.RAW, [memoryview(content)], len(content), one.digest)
                    self._perform(self.machine.piece(piece))
                run = run[count + 1 :]
        return self.session.next_event(self.pair.now)

    def greeted(self, event: Hello) -> None:
        """The peer's hello came: a server answers it."""
        if self.session.role is Role.SERVER:
            name = self.session.hello.name
            self.send(hello(name, signed_in=True, features=self.pair.features))
            self.session.version = agree(self.session.hello, event)

    def handle(self, event: Message | Piece) -> None:
        raise NotImplementedError

    def turn(self) -> None:
        raise NotImplementedError

    def tick(self) -> None:
        """Time has passed."""

        def due() -> None:
            data = self.session.tick(self.pair.now)
            if data:
                self.write(data)

        if not self.session.over:
            self.guard(due)


class SenderEnd(_End):
    """A source tree, the sender machine, and reading ahead as the real owner does."""

    def __init__(
        self,
        pair: Pair,
        entries: Iterable[Any],
        job_offer: Offer,
        memory: dict[Any, dict[int, bytes]],
        concluded: Concluded | None,
    ) -> None:
        super().__init__(pair, Role.SERVER if pair.pull else Role.CLIENT, "attic" if pair.pull else "desk")
        #: Everything ever sent on each lane.
        self.lanes = {number: bytearray() for number in range(1, pair.lanes + 1)}
        features = in_force(frozenset(pair.features), job_offer.kind, pair.links)
        self.machine = pair.sender(job_offer, concluded, features=features)
        self._packer = Packer()
        self._lied: dict[tuple[bytes, ...], int] = {}
        #: What was read: path, block, and whether it was to be sent.
        self.reads: list[tuple[tuple[bytes, ...], int, bool]] = []
        self.receipt: ReceiptBody | None = None
        self._entries = deque(entries)
        everything = list(self._entries)
        files = [item for item in everything if isinstance(item, File)]
        folders = sum(isinstance(item, Folder) for item in everything)
        links = [item for item in everything if isinstance(item, Link)]
        size = sum(len(file.content) for file in files) + sum(len(link.target) for link in links)
        self._totals = (len(files) + len(links), folders, size)
        self._memory = memory
        self._stack: list[int] = []
        self._walking = self._walked = False
        self._reading = 0
        self._large: File | None = None
        self._digests: dict[int, bytes] = {}
        if not pair.pull:
            self.write(self.session.send(self.session.hello, pair.now))

    def handle(self, event: Message | Piece) -> None:
        if isinstance(event, Hello):
            self.greeted(event)
        if isinstance(event, messages.Request if self.pair.pull else Hello):
            self.send(self.machine.offer)
            self.later("count", lambda: self._perform(self.machine.counted(*self._totals)))
        elif isinstance(event, Hello):
            pass
        elif isinstance(event, Piece):
            raise ProtocolError("wrong-state")
        else:
            self._perform(self.machine.receive(event))

    def turn(self) -> None:
        room = self.machine.room()
        if room > 0 and not self._walking and not self._walked:
            self._walking = True
            self.later("walk", lambda: self._walk(self.pair.random.randint(1, room)))
        while self._reading < limits.READ_AHEAD and (work := self.machine.next_work()) is not None:
            self._reading += 1
            self.later("read", lambda work=work: self._read(work))  # type: ignore[misc]

    def _perform(self, effects: Sequence[events.Effect]) -> None:
        for effect in effects:
            match effect:
                case events.Send():
                    self.send(effect.message)
                case events.There():
                    self.resolved += effect.each()
                case events.Resolved():
                    self.resolved.append(effect)
                case events.VerifyReceipt():
                    try:
                        _KEY.public_key().verify(effect.signature, _CONTEXT + effect.body)
                    except InvalidSignature as error:
                        raise ProtocolError("protocol-error", "not signed by the receiver") from error
                    self.machine.receipt_verified()
                    self.receipt = messages.decode_receipt_body(effect.body)
                    if not self.pair.pull:
                        self.send(Goodbye())

    def _walk(self, count: int) -> None:
        self._walking = False
        for _ in range(min(count, len(self._entries))):
            item = self._entries.popleft()
            if isinstance(item, File):
                digest = item.digest() if self.pair.checksum else None
                added = self.machine.add_file(item.path, len(item.content), item.mtime, item.mode, item, digest)
                self._perform(added)
            elif isinstance(item, Folder):
                number, effects = self.machine.add_folder(item.path)
                self._stack.append(number)
                self._perform(effects)
            elif isinstance(item, Link):
                self._perform(self.machine.add_link(item.path, item.target, item.mtime))
            elif isinstance(item, tuple):
                self._perform(self.machine.omit(*item))
            else:
                self._perform(self.machine.end_folder(self._stack.pop(), item.mode, item.mtime))
        if self._entries:
            self._perform(self.machine.flush_manifest())
        else:
            self._walked = True
            self._perform(self.machine.end_manifest())

    def _read(self, work: Any) -> None:
        self._reading -= 1
        if isinstance(work, events.ReadWhole):
            for number in work.numbers:
                self._whole(number, self.machine.source(number))
        elif isinstance(work, events.OpenEntry):
            file = self.machine.source(work.number)
            if file.fault == "open":
                self._perform(self.machine.source_failed(work.number, "source-vanished"))
                return
            self._large, self._digests = file, self._memory.setdefault(file.path, {})
            known = BlockSet(block_count(len(file.content)))
            for block in self._digests:
                known.add(block)
            self.machine.opened(work.number, known)
        elif self._large is not None:
            self._part(work, self._large)

    def _whole(self, number: int, file: File) -> None:
        if file.fault:
            self._perform(self.machine.source_failed(number, "source-changed"))
            return
        self.reads.append((file.path, 0, True))
        self._block(number, file, 0)
        self._perform(self.machine.wholes_read([(number, file.digest())]))

    def _part(self, work: events.ReadBlock | events.CloseEntry, file: File) -> None:
        stage = "close" if isinstance(work, events.CloseEntry) else f"read {work.block}"
        again = isinstance(work, events.ReadBlock) and (file.path, work.block, True) in self.reads
        if file.fault == stage or (again and file.fault == f"again {work.block}"):  # type: ignore[union-attr]
            self._large = None
            self._perform(self.machine.source_failed(work.number, "source-changed"))
        elif isinstance(work, events.ReadBlock):
            self.reads.append((file.path, work.block, work.send))
            self._digests[work.block] = block_digest([file.block(work.block)])
            digest = self._digests[work.block]
            if work.send and work.basis == digest:
                self.session.step(Piece, self.pair.now)
                length = len(file.block(work.block))
                self._content(copy_frame(work.number, work.block, work.block * limits.BLOCK, length, digest))
            elif work.send:
                self._block(work.number, file, work.block, own=work.again)
        else:
            self._large = None
            # A file that the receiver gave up is closed too, but then not every digest is known.
            assert not work.complete or len(self._digests) == block_count(len(file.content))
            self._perform(self.machine.closed(work.number, file.digest() if work.complete else b""))

    def _content(self, frames: bytes, *, own: bool = False) -> None:
        """Content goes by any lane, but for what has to go by the job's `own` connection."""
        lane = 0 if own else self.pair.random.randint(0, self.pair.lanes)
        if lane:
            self.lanes[lane] += frames
        else:
            self.write(frames)

    def _block(self, number: int, file: File, block: int, *, own: bool = False) -> None:
        content = file.block(block)
        digest = block_digest([content])
        lied = self._lied.get(file.path, 0)
        if file.lies == block and lied < file.times:
            self._lied[file.path] = lied + 1
            content = bytes([content[0] ^ 1]) + content[1:]
        self.session.step(Piece, self.pair.now)
        zero = bool(content) and not any(content)
        self._packer.begin()
        packed = self._packer.pack(content) if "zstd" in self.session.features and not zero else None
        encoding = Encoding.RAW if packed is None else Encoding.ZSTD
        sent = content if packed is None else packed
        self._content(b"".join(data_frames(number, block, sent, digest, zero=zero, encoding=encoding)), own=own)


def _content(effect: Any) -> bytes:
    """What the chunks of an effect stand for; what is no such frame stands for something that does not match."""
    content = unpack(effect.chunks, effect.length) if effect.packed else b"".join(effect.chunks)
    return b"?" if content is None else content


class ReceiverEnd(_End):
    """A disk, the receiver machine, and a strand per file."""

    def __init__(self, pair: Pair, disk: MemoryDisk, refusal: str, receipts: dict[bytes, Receipt]) -> None:
        super().__init__(pair, Role.CLIENT if pair.pull else Role.SERVER, "desk" if pair.pull else "attic")
        #: What the sender of a pull could not send: path and number of the error.
        self.left_out: list[events.LeftOut] = []
        self.disk = disk
        self.machine: Receiver | None = None
        #: What has come on each lane: frames of content, and nothing else.
        self.lanes = {number: FrameDecoder() for number in range(1, pair.lanes + 1)}
        #: Whether the receipt was made.
        self.concluded = False
        self._job = b""
        self._refusal = refusal
        self._receipts = receipts
        if pair.pull:
            self.write(self.session.send(self.session.hello, pair.now))

    def handle(self, event: Message | Piece) -> None:
        now = self.pair.now
        if isinstance(event, Hello):
            self.greeted(event)
            if self.pair.pull:
                self.send(messages.Request(JOB, [[b"share", name] for name in self.pair.pull], [], 2 * self.pair.links))
        elif isinstance(event, Offer):
            self._offered(event)
        elif self.machine is None:
            raise ProtocolError("wrong-state")
        elif isinstance(event, Piece):
            self._perform(self.machine.piece(event))
        else:
            self._perform(self.machine.receive(event, now))

    def _offered(self, event: Offer) -> None:
        self._job = event.job
        if event.job in self._receipts:
            self.send(self._receipts[event.job])
        elif self._refusal:
            self.send(messages.Refuse(event.job, KINDS[self._refusal].number))
        else:
            self.disk.begin(event.into)
            features = in_force(self.session.features, event.kind, self.pair.links)
            self.machine = self.pair.receiver(
                event, self.pair.now, features=features, tops=self.pair.pull or None
            )
            if self.lanes:
                self.machine.lanes_joined()
            conflict = CONFLICTS.index(self.disk.conflict)
            self.send(Accept(event.job, limits.WINDOW_UNANSWERED, limits.WINDOW_UNACKNOWLEDGED, conflict, 0))

    def arrive_on_lane(self, lane: int, data: bytes) -> None:
        """Bytes of the sender on a lane; what comes behind the receipt is dropped."""
        decoder = self.lanes[lane]
        decoder.bounds, decoder.encodings = AFTER_SIGN_IN, encodings(self.session.features)
        decoder.feed(data)

        def take() -> None:
            while (piece := decoder.next_item()) is not None:
                assert self.machine is not None
                assert isinstance(piece, Piece)
                if not self.concluded:
                    self._perform(self.machine.piece(piece, lane))

        if not self.session.over:
            self.guard(take)

    def turn(self) -> None:
        if self.machine is not None and not self.concluded:
            self._perform(self.machine.flush(self.pair.now))

    def tick(self) -> None:
        super().tick()
        if self.machine is not None and not self.concluded and not self.session.over:
            machine = self.machine
            self.guard(lambda: self._perform(machine.tick(self.pair.now)))

    def _perform(self, effects: Sequence[events.Effect]) -> None:
        for effect in effects:
            match effect:
                case events.Send():
                    self.send(effect.message)
                case events.There():
                    self.resolved += effect.each()
                case events.Resolved():
                    self.resolved.append(effect)
                case events.LookUp():
                    for entry in effect.entries:
                        self.later("look", lambda entry=entry: self._look_up(entry))  # type: ignore[misc]
                case events.LeftOut():
                    self.left_out.append(effect)
                case events.MakeLinks():
                    self.later("links", lambda effect=effect: self._make_links(effect))  # type: ignore[misc]
                case events.Sync():
                    self.later(("sync", effect.number), lambda number=effect.number: self._sync(number))  # type: ignore[misc]
                case events.Discard():
                    self._discard(effect)
                case events.Conclude():
                    self.later("sign", self._conclude)
                case (
                    events.StoreWhole()
                    | events.WriteBlock()
                    | events.CopyBlock()
                    | events.Publish()
                    | events.FinishFolder()
                ):
                    self.later(effect.number, lambda effect=effect: self._store(effect))  # type: ignore[misc]

    def _make_links(self, effect: events.MakeLinks) -> None:
        assert self.machine is not None
        for entry in effect.entries:
            try:
                stored_as, there = self.disk.make_link(tuple(entry.path), entry.target)
                self._perform(self.machine.link_made(entry.number, stored_as, identical=there))
            except FtxError as error:
                self._perform(self.machine.failed(entry.number, error.name))

    def _look_up(self, entry: Any) -> None:
        assert self.machine is not None
        found = self.disk.look_up(entry)
        match found:
            case Have():
                effects = self.machine.have([(entry.number, found.stored_as, found.digest)])
            case Made():
                effects = self.machine.made(entry.number)
            case Skip():
                effects = self.machine.skip(entry.number)
            case Refuse():
                effects = self.machine.refuse(entry.number, found.error)
            case _:
                offered = min(block_count(len(found.basis)), block_count(entry.size)) if found.basis else 0
                basis = b"".join(File((), found.basis).block_digests()[:offered])
                if found.held is None and not basis:
                    effects = self.machine.want_all([entry.number], self.pair.now)
                else:
                    effects = self.machine.want(entry.number, found.held, self.pair.now, basis)
                if self.pair.spoil:
                    self.disk.spoil_bases()
        self._perform(effects)

    def _store(self, effect: Any) -> None:
        assert self.machine is not None
        number = effect.number
        try:
            match effect:
                case events.StoreWhole():
                    done = self.disk.store_whole(number, _content(effect), effect.digest)
                    effects = self.machine.stored([(number, *done)])
                case events.WriteBlock():
                    content = None if effect.chunks is None else _content(effect)
                    ok = self.disk.write_block(number, effect.block, content, effect.digest)
                    effects = self.machine.block_written(number, effect.block, ok, self.pair.now)
                case events.CopyBlock():
                    ok = self.disk.copy_block(number, effect.block, effect.offset, effect.digest)
                    effects = self.machine.block_written(number, effect.block, ok, self.pair.now)
                case events.Publish():
                    effects = self.machine.stored([(number, *self.disk.publish(number, effect.digest))])
                case _:
                    path = self.disk.finish_folder(number, effect.mode, effect.mtime)
                    effects = self.machine.finished(number, path)
        except ProtocolError:
            raise
        except FtxError as error:
            effects = self.machine.failed(number, error.name)
        self._perform(effects)

    def _sync(self, number: int) -> None:
        assert self.machine is not None
        try:
            effects = self.machine.synced(number, self.disk.sync(number), self.pair.now)
        except FtxError as error:
            effects = self.machine.failed(number, error.name)
        self._perform(effects)

    def _discard(self, effect: events.Discard) -> None:
        def behind_its_writes() -> None:
            self.later(effect.number, lambda: self.disk.discard(effect.number, effect.keep))

        syncing = self.strands.get(("sync", effect.number))
        if syncing is None:
            behind_its_writes()
        else:
            syncing.append(behind_its_writes)

    def _conclude(self) -> None:
        assert self.machine is not None
        counts = self.machine.transcript.counts
        body = messages.encode_receipt_body(
            ReceiptBody(
                self._job, CLIENT, SERVER, 1, 2, counts.files, counts.identical, counts.skipped, counts.folders,
                counts.failed, counts.bytes, 0, self.machine.transcript.digest(),
            )
        )  # fmt: skip
        self.concluded = True
        receipt = Receipt(body, _KEY.sign(_CONTEXT + body))
        self._receipts[self._job] = receipt
        self.send(receipt)
        if self.pair.pull:
            self.send(Goodbye())


class Pair:
    """One connection with one job. `run()` it, then look at `client`, `server` and the disk.

    `cut`: `whole`, `bytes` or `random`. `orderly`: the first of what is under way comes back first, always.
    `flip`: a bit of what an end sends, `("client", bit number)`. `lose`: after so many bytes of an end nothing of it
    arrives. `features`: what both hellos list. `checksum`: files are announced with their digests.
    `spoil`: older versions change as soon as they are offered.
    `sender`, `receiver`: the machines.
    `lanes`: content takes any of so many lanes or the connection; what is on one of them overtakes the others.
    `pull`: the names at the top that the receiver, as the client, asks for; `links`: and symbolic links with them.
    """

    def __init__(
        self,
        entries: Iterable[Any],
        disk: MemoryDisk,
        *,
        seed: int = 0,
        cut: str = "whole",
        orderly: bool = False,
        job_offer: Offer | None = None,
        refusal: str = "",
        memory: dict[Any, dict[int, bytes]] | None = None,
        receipts: dict[bytes, Receipt] | None = None,
        flip: tuple[str, int] | None = None,
        lose: tuple[str, int] | None = None,
        concluded: Concluded | None = None,
        features: Sequence[str] = messages.FEATURES,
        checksum: bool = False,
        spoil: bool = False,
        sender: type[Sender] = Sender,
        receiver: type[Receiver] = Receiver,
        pull: Sequence[bytes] = (),
        links: bool = False,
        lanes: int = 0,
    ) -> None:
        self.now = 0.0
        self.lanes = lanes
        self.checksum = checksum
        self.spoil = spoil
        #: The machines, and what is sent.
        self.sender, self.receiver = sender, receiver
        self.entries = list(entries)
        entries = self.entries
        self.pull = tuple(pull)
        self.links = links
        self.features = (*features, "pull") if pull else features
        self.seed = seed
        self.random = random.Random(seed)
        self.cut = cut
        self.orderly = orderly
        made = job_offer or offer(kind=int(bool(pull)))
        self.client = SenderEnd(self, entries, made, {} if memory is None else memory, concluded)
        self.server = ReceiverEnd(self, disk, refusal, {} if receipts is None else receipts)
        #: Nothing was under way any more, but the session was not over: the connection would be lost.
        self.stuck = False
        self._quiet = 0
        self._flip = flip
        self._lose = lose
        self._arrived = {"client": 0, "server": 0}
        self._on_lanes = dict.fromkeys(range(1, lanes + 1), 0)

    def run(self) -> Pair:
        """Until both ends are through, or nothing moves."""
        while not (self.client.session.over and self.server.session.over) and not self.stuck:
            self.step()
        return self

    def step(self) -> None:
        """Let one of the things that are under way happen, or a quarter of a second pass when there is none."""
        actions = [*self._deliveries(), *self._strands(self.client), *self._strands(self.server)]
        if actions:
            self._quiet = 0
            self.now += 0.0002
            (actions[0] if self.orderly else self.random.choice(actions))()
            return
        self._quiet += 1
        if self._quiet > _QUIET:
            self.stuck = True
            return
        self.now += 0.25
        self.client.tick()
        self.server.tick()

    @property
    def complete(self) -> bool:
        """Whether the job ended as it should: with a receipt, and a goodbye."""
        return self.client.receipt is not None and not (self.client.error or self.server.error or self.stuck)

    def explain(self) -> str:
        """What a failing assertion should say."""
        return f"seed {self.seed}, cut {self.cut}: {self.client.error!r} {self.server.error!r} stuck={self.stuck}"

    def deliver_all(self, name: str) -> None:
        """Let everything arrive that this end has sent."""
        origin, target = (self.client, self.server) if name == "client" else (self.server, self.client)
        if self._arrived[name] < len(origin.sent):
            self._deliver(name, origin, target, len(origin.sent))

    def _deliveries(self) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = []
        for name, origin, target in (("client", self.client, self.server), ("server", self.server, self.client)):
            end = len(origin.sent)
            if self._lose is not None and self._lose[0] == name:
                end = min(end, self._lose[1])
            if self._arrived[name] < end:
                found.append(lambda name=name, o=origin, t=target, end=end: self._deliver(name, o, t, end))  # type: ignore[misc]
        for lane, arrived in self._on_lanes.items():
            if arrived < len(self.client.lanes[lane]) and self.server.machine is not None:
                found.append(lambda lane=lane: self._deliver_on_lane(lane))  # type: ignore[misc]
        return found

    def _deliver_on_lane(self, lane: int) -> None:
        start, sent = self._on_lanes[lane], self.client.lanes[lane]
        size = {"whole": len(sent), "bytes": 1, "random": self.random.choice(_CHUNKS)}[self.cut]
        self._on_lanes[lane] = end = min(len(sent), start + size)
        self.server.arrive_on_lane(lane, bytes(memoryview(sent)[start:end]))

    def _deliver(self, name: str, origin: _End, target: _End, end: int) -> None:
        start = self._arrived[name]
        if self.cut == "bytes":
            end = start + 1
        elif self.cut == "random":
            end = min(end, start + self.random.choice(_CHUNKS))
        self._arrived[name] = end
        data = bytes(memoryview(origin.sent)[start:end])
        if self._flip is not None and self._flip[0] == name and start <= self._flip[1] // 8 < end:
            changed = bytearray(data)
            changed[self._flip[1] // 8 - start] ^= 1 << (self._flip[1] % 8)
            data = bytes(changed)
        target.arrive(data)

    def _strands(self, end: _End) -> list[Callable[[], None]]:
        return [lambda strand=strand: end.work(strand) for strand in end.strands]  # type: ignore[misc]
