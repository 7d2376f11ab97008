"""Every number that bounds something, with its unit, its reason and, where there is one, a precedent.

A limit that is not enforced does not exist: each name here is used by the code that enforces it.

It is longer than other modules because it is one list: who asks what is bounded, and how, reads it and nothing else.
"""

from __future__ import annotations

from typing import Final

KiB: Final = 1024
MiB: Final = 1024 * KiB

# -- blocks ------------------------------------------------------------------------------------------------
#: Bytes in a block: what is verified, remembered, resumed and asked for again as one. At most this much of a
#: file is lost by a crash. Part of the protocol, never changed without a new version.
BLOCK: Final = 1 * MiB
#: Bytes of a digest (BLAKE3).
DIGEST: Final = 32
#: Content bytes in one data frame: frames stay well under 256 KiB, the packet bound of OpenSSH.
PIECE: Final = 128 * KiB
#: Pieces of one block: a peer that sends crumbs is not to make us keep a million of them. Part of the protocol.
BLOCK_PIECES: Final = 64
#: Blocks of a file that may fail to verify: with the third the file fails. Part of the protocol (feature `repair`).
BLOCK_TRIES: Final = 3
#: Blocks in one bitmap of a needs message or a journal group: 1 KiB of bitmap for 8 GiB of file.
GROUP: Final = 8192

#: Block digests of older copies that one job has on offer at once: 4 MiB, for 128 GiB. What is behind them travels. Of
#: larger files none are remembered.
BASIS_BLOCKS: Final = 131_072
#: Files of one job with an older copy on offer at once (a descriptor each), and digests in one message.
BASES: Final = 16
BASIS_DIGESTS: Final = 1024

# -- compression -------------------------------------------------------------------------------------------
#: Level of zstd: about 1 GB/s on a core for text; on content that does not compress it costs next to nothing.
ZSTD_LEVEL: Final = 1
#: Share of its bytes that a sample and a block must save to be sent compressed.
ZSTD_GAIN: Final = 0.05
#: Bytes per second that go away while a sender waits, below which compressing is worth it. Half a gigabit: faster than
#: that it is as often the other end that makes us wait, on one machine always, and compressing takes processor time
#: from both. (Measured with both ends on two busy cores: 120 to 190 MB/s.)
ZSTD_FASTEST: Final = 64 * MiB
#: Bytes as which each small file counts beside its own in that: a receiver that stores 5,000 files a second, and makes
#: us wait for that, is no network of 20 MiB/s.
ZSTD_FILE: Final = 16 * KiB
#: Bytes on the wire after which it is looked again how fast the network is: at first, and at most.
ZSTD_TERM: Final = 8 * MiB
ZSTD_LONGEST: Final = 128 * MiB
#: Bytes of a sample, blocks of a file for which one sample speaks, and the least bytes that are worth compressing.
SAMPLE: Final = 64 * KiB
SAMPLE_EVERY: Final = 64
PACKED_LEAST: Final = 256

# -- frames ------------------------------------------------------------------------------------------------
#: Bytes in any control frame body before the peer is signed in.
FRAME_BEFORE_SIGN_IN: Final = 4 * KiB
#: Bytes in any frame body while two peers pair: the longest has 37.
FRAME_PAIRING: Final = 256
#: Bytes in a manifest, needs or results frame body.
FRAME_BATCH: Final = 64 * KiB
#: Bytes in any other control frame body after sign-in.
FRAME_CONTROL: Final = 16 * KiB
#: Entries, answers or results in one frame.
BATCH: Final = 512

# -- names -------------------------------------------------------------------------------------------------
#: Bytes in one path component (NAME_MAX of Linux file systems).
NAME: Final = 255
#: Components in a path.
DEPTH: Final = 64
#: Bytes in a path, separators counted (PATH_MAX of Linux).
PATH: Final = 4096
#: Bytes in the target of a symbolic link that is sent (PATH_MAX of Linux, less its NUL).
LINK: Final = 4095
#: Symbolic links on the way to one thing in a share, where they are followed: as the kernel (path_resolution(7)).
LINKS_FOLLOWED: Final = 40
#: Largest file size and offset: a signed 64-bit off_t.
FILE_SIZE: Final = 2**63 - 1
#: Largest file that goes to standard output: its blocks are remembered in memory, 8 MiB for this, and nothing else
#: bounds what a sender may claim, since a pipe has no free space that could be too little.
STREAM_FILE: Final = 64 * 2**40
#: Bytes of such a file that wait in the temporary folder for what has to be written before them.
STREAM_EARLY: Final = 2**30
#: Entries in one job: numbers are 32 bits, and nobody means more.
ENTRIES: Final = 2**31 - 1
#: Characters in a display name, of a peer or of ourselves.
DISPLAY_NAME: Final = 64
#: Tries to find a free name of the form `stem (N).ext`.
RENAME_TRIES: Final = 999

# -- shares ------------------------------------------------------------------------------------------------
#: Paths in one request, and patterns to leave out with their length in characters: together within one control frame.
REQUEST_PATHS: Final = 64
REQUEST_PATTERNS: Final = 64
PATTERN: Final = 255
#: Requests and lists of one key that are served at once. Each may hold a descriptor for every folder on its way down,
#: and the names in them, for as long as whoever asked takes nothing and says that it lives.
SERVED_PER_KEY: Final = 16
#: Stars in a pattern of a peer: the time to match one grows with a power of their number.
PATTERN_STARS: Final = 3
#: Patterns of a peer in one request that have more than one star.
DEAR_PATTERNS: Final = 8
#: Folders of `get` of which the records are kept, the latest used.
LANDINGS: Final = 200
#: Events that wait for whoever iterates over them before the connection is read no further.
EVENTS_QUEUED: Final = 1024
#: Items of a listing that wait likewise.
ITEMS_QUEUED: Final = 2048

# -- lanes -------------------------------------------------------------------------------------------------
#: Lanes of a job beside its own connection: what one peer may add to the memory and to the share of the network that
#: a job takes.
LANES: Final = 7
#: Without being told, lanes are opened where a round trip takes so many seconds, ...
LANE_ROUND_TRIP: Final = 0.015
#: ... as many as carry this rate in bytes per second for each processor, up to two, if a connection has so many bytes
#: on its way (the usual net.ipv4.tcp_wmem, tcp(7)), ...
LANE_RATE: Final = 160 * MiB
LANE_FLIGHT: Final = 4 * MiB
#: ... and no more than leave each connection this much content: opening one takes about three round trips.
LANE_LEAST: Final = 8 * MiB
#: Seconds behind the joining of its lanes in which a job that is lost opens only half as many the next time.
LANE_TRIAL: Final = 30.0
#: Seconds behind the loss of a lane in which the job's own connection may still say that the peer has ended the job.
LANE_LAST_WORD: Final = 2.0
#: Content that waits to be encrypted on a lane above which it is given no more, and below which it is.
LANE_QUEUE_HIGH: Final = 1 * MiB
LANE_QUEUE_LOW: Final = 512 * KiB
#: Files that failed while blocks of them may be under way on lanes: so many are remembered for dropping what comes.
WITHDRAWN: Final = 4096

# -- windows (entries) -------------------------------------------------------------------------------------
#: Manifest entries sent and not yet answered by needs.
WINDOW_UNANSWERED: Final = 2048
#: Manifest entries sent and not yet answered by a result. Two windows of 2048 keep 10,000 small files moving
#: over a path of 100 ms in about five round trips.
WINDOW_UNACKNOWLEDGED: Final = 4096

# -- time (seconds) ----------------------------------------------------------------------------------------
#: From accept to signed in, absolute. sshd gives 120 s, rsync 60 s.
HELLO_DEADLINE: Final = 10.0
#: A ping is sent after this much silence of ours.
PING_INTERVAL: Final = 10.0
#: A peer silent for this long is dead.
SILENCE: Final = 30.0
#: While a frame is under way, a peer sends its rest or at least so many bytes within so many seconds, or it is dead.
CRAWL_LEAST: Final = 1024
CRAWL_SECONDS: Final = 60.0
#: From a refusal to the abort that makes it real (loseConnection under TLS may never end).
ABORT_AFTER: Final = 1.0
#: An older connection of the same peer must show life within this time or is superseded.
PROVE_ALIVE: Final = 3.0
#: How long a newer connection waits for an older one that does not read because its disk is slow.
PAUSED_WAIT: Final = 15.0
#: A peer heard of within this time is alive without being asked.
ALIVE: Final = 1.0
#: Progress reports of the receiver: at least and at most this far apart while something changes.
PROGRESS_SLOWEST: Final = 1.0
PROGRESS_FASTEST: Final = 0.25
#: A receiver whose job is cancelled waits this long for its disk before it says what stays; a sender that gives a
#: job up waits so long for that answer. Together less than the second in which a cancel must be seen.
CANCEL_WAIT: Final = 0.4
CANCEL_ANSWER: Final = 0.9
#: A sender that was asked to pause and still sends after this time, and more than may have been on its way (what waits
#: at its end, and in the kernels of both), is not read any more until the pause is over.
PAUSE_GRACE: Final = 0.5
PAUSE_BYTES: Final = 8 * MiB
#: How often, in seconds, the delay of the reactor is measured, and for how long the longest is remembered.
GAP_EVERY: Final = 0.25
GAP_SPAN: Final = 60.0
#: Seconds for the file system to say how much is free, when somebody asks for metrics.
FREE_WAIT: Final = 1.0
#: A rate limit: the time for which unused rate may be made up later, which late timers need; what passes at once, in
#: seconds of the rate and at least in bytes; and the least rate, in bytes per second, that leaves room for answers.
RATE_CREDIT: Final = 0.1
RATE_PORTION: Final = 0.05
RATE_PORTION_LEAST: Final = 2 * KiB
RATE_LEAST: Final = 1000
#: A TCP connect attempt.
CONNECT_TIMEOUT: Final = 10.0

# -- connections -------------------------------------------------------------------------------------------
#: Connections not yet signed in, in all; the oldest silent one makes room.
UNSIGNED_TOTAL: Final = 256
#: Signed-in connections of one key, and in all; each may run one job. Five hundred clients of one person get through.
SIGNED_IN_PER_KEY: Final = 600
SIGNED_IN_TOTAL: Final = 2000
#: Pings and other control frames that ask for nothing, per second over 10 s.
IDLE_FRAMES_PER_SECOND: Final = 10
#: Bytes from the network until a TLS handshake is complete. An honest one takes 3 KiB (key shares mostly), and
#: the first frame may follow in the same read.
HANDSHAKE: Final = 32 * KiB
#: Bytes of a peer's certificate in DER. Ours have 270.
CERTIFICATE: Final = 1 * KiB

#: Seconds between two log lines of one kind about one source, and how many sources are remembered.
COMPLAINT_INTERVAL: Final = 60.0
COMPLAINT_SOURCES: Final = 1024
#: Rules that are named in the log at the end of a job of which they refused files.
REFUSALS_SAID: Final = 10
#: Storage failures logged one by one in that time; more are counted.
STORAGE_LINES: Final = 10

#: Seconds between two looks at the peers (a removal counts within a second), and between two clean-ups.
PEERS_RECHECK: Final = 0.5
CLEAN_INTERVAL: Final = 3600.0

#: Seconds in which a discovery burst gets its answers, and a look for one paired peer whose addresses are known.
DISCOVERY_BURST: Final = 1.0
DISCOVERY_LOOK: Final = 0.2
#: Seconds without a byte after which a lost connection is given up, and between attempts: first, growth, most.
RETRY_FOR: Final = 30.0
RETRY_FIRST: Final = 0.5
RETRY_GROWTH: Final = 1.7
RETRY_MOST: Final = 5.0
#: Tries more when a server drops the connection before its hello.
RETRY_DROPPED: Final = 4
#: Seconds of a peer's silence after which it is looked for by its identity; more than passes between two words of a
#: receiver that works, less than between two pings of one that waits.
DOUBT_AFTER: Final = 4.0
#: Places that are dialled at once.
PLACES: Final = 16

# -- memory (bytes) and work -------------------------------------------------------------------------------
#: Received content waiting for the disk, per job; above it the transport is paused.
RECEIVE_QUEUE: Final = 3 * MiB
#: Received content in memory over all jobs of a daemon: what waits for the disk, and each block that is coming, whole.
#: Thirty jobs at full speed have their queues in it; more take turns. Besides, each that waits has one read.
RECEIVE_TOTAL: Final = 96 * MiB
#: Of that, what the jobs of one key may take together: the others are not to wait for one peer.
RECEIVE_SHARE: Final = 64 * MiB
#: Seconds in which a block has to come while others wait for its room: 17 KiB/s. As for the rest of a frame.
ROOM_TIME: Final = CRAWL_SECONDS
#: What a block counts there while it waits for the disk if only a word of it came: it is of zeros, or in an older copy.
WORD: Final = 4 * KiB
#: Received bytes that come in chunks smaller than this are joined: an object for each would weigh more than they do.
JOINED: Final = 1 * KiB
#: Content of a piece up to which it is copied out of what was read from the socket, a READ_SLICE of which a view would
#: keep alive.
COPIED: Final = 64 * KiB
#: Content of a file of one block up to which it is taken together with those behind it, and copied, too.
GATHERED: Final = 16 * KiB
#: Blocks read ahead of the network by a sender.
READ_AHEAD: Final = 2
#: Threads for peers and configuration, apart from those that the inbox's disk may stall.
STATE_THREADS: Final = 2
#: Seconds that a stop waits for each thing that has to end, and when it was asked for twice.
STOP_WAIT: Final = 30.0
STOP_AT_ONCE: Final = 2.0
#: Bytes read from one connection in one turn of the reactor before sign-in (Twisted's default) and after, and of these
#: at once: so much ciphertext OpenSSL holds for each connection, and it fits into the processor's cache.
READ_SIZE: Final = 64 * KiB
READ_SIZE_SIGNED_IN: Final = 1 * MiB
READ_SLICE: Final = 256 * KiB
#: Bytes encrypted at once, ciphertext given to the socket at once, and bytes encrypted in one turn of the reactor.
WRITE_SLICE: Final = 128 * KiB
SEALED: Final = 2 * WRITE_SLICE
WRITE_TURN: Final = 4 * MiB
#: Plaintext bytes waiting to be encrypted above which a producer is paused, and below which it is resumed ...
WRITE_QUEUE_HIGH: Final = 1 * MiB
WRITE_QUEUE_LOW: Final = 256 * KiB
#: ... and of who sends content, so that the next block is there when the last has gone.
CONTENT_QUEUE_HIGH: Final = 3 * MiB
CONTENT_QUEUE_LOW: Final = 2 * MiB
#: TLS records of one connection looked at in one turn of the reactor: a peer may put a single byte into each.
RECORDS_PER_TURN: Final = 1024
#: Freed bytes that the allocator keeps for the next block, per arena: a client has one, a daemon one for each thread.
HEAP_KEPT: Final = 32 * MiB
#: Objects made between two runs of the garbage collector, in a client and in a daemon.
GARBAGE_CLIENT: Final = 200_000
GARBAGE_DAEMON: Final = 10_000
#: Frames of one connection dealt with in one turn of the reactor; a read may hold five thousand small ones.
FRAMES_PER_TURN: Final = 1024
#: Small files stored or read by one disk job; what is looked up by one is what one frame announces.
DISK_BATCH: Final = 256
#: Small files that are made, or get their names, with one call outside the interpreter: after so many it is asked again
#: whether the job may still do so.
FILES_TOGETHER: Final = 256
#: Folders that these are in.
FOLDERS_TOGETHER: Final = 8
#: Bytes of small files in one disk job.
DISK_BATCH_BYTES: Final = 1 * MiB
#: Descriptors the daemon asks the system for, if it may have them.
DESCRIPTORS: Final = 65_536
#: Descriptors below which it says that they are few: 256 connections, and four batches of files.
DESCRIPTORS_ENOUGH: Final = 2048
#: Threads of the worker pool.
WORKER_THREADS: Final = 4
#: Threads it may be given; more only take turns.
WORKER_THREADS_MOST: Final = 64
#: Unsynced bytes of a partial before a sync is started; also started after SYNC_INTERVAL seconds.
SYNC_BYTES: Final = 32 * MiB
SYNC_INTERVAL: Final = 1.0
#: Directory descriptors kept open per job, in tree order.
OPEN_FOLDERS: Final = 64

# -- disk --------------------------------------------------------------------------------------------------
#: Free space left alone: the smaller of this share of the file system and this many bytes.
SPACE_FLOOR_SHARE: Final = 0.05
SPACE_FLOOR_BYTES: Final = 1024 * MiB
#: Seconds for which the answer of the file system how much is free serves for further files.
SPACE_FRESH: Final = 0.1
#: Abandoned partials are removed after this many days.
PARTIAL_DAYS: Final = 30
#: Abandoned partials kept, and the share of the file system they may take; the oldest go first, the youngest stays.
#: A file that does not fit is refused for want of space, and nobody is to wait 30 days for what others gave up.
PARTIAL_FILES: Final = 10_000
PARTIAL_SHARE: Final = 0.25
#: Names of one folder sorted in memory; those of a larger one are sorted on disk.
WALK_NAMES: Final = 16384
#: Items that a client's walk may be ahead of what is announced, some 400 bytes each. A tree of that size is looked at
#: once; what is larger is counted beside, and looked at once more for that.
WALK_AHEAD: Final = 8192
#: Seconds after which it is, where a receiver takes it meanwhile: most trees are sent before, and known by that.
COUNT_AFTER: Final = 5.0
#: Sender digest memories and receipts kept, newest first, and for how many days.
DIGEST_FILES: Final = 1000
RECEIPT_FILES: Final = 1000
#: Jobs of one process after which it looks once more whether some of these have to go: so many more there may be.
UPKEEP_JOBS: Final = 100
#: Bytes of a line in a receipt: two paths, each byte of which may be three characters, and what stands before them.
RECEIPT_LINE: Final = 32 * KiB
STATE_DAYS: Final = 90
#: Nothing is remembered of a file whose ctime is younger than this (seconds): it may change again unseen.
RACY_SECONDS: Final = 2.0
#: Files or folders in one batch up to which each gets its own fsync; more share one syncfs, where that is safe.
SYNC_EACH: Final = 8
#: A syncfs that took longer than this (seconds) waited for other programs' data: for the next SYNCFS_PAUSE seconds
#: files get their own fsync.
SYNCFS_SLOW: Final = 2.0
SYNCFS_PAUSE: Final = 60.0
#: Folders known to be durable by name, in all jobs together; of those that are forgotten the parent is synced again.
DURABLE_NAMES: Final = 65_536
#: Groups of block digests (256 KiB each) that one journal keeps in memory.
JOURNAL_GROUPS: Final = 2
#: Partials of one job that are open at once (two descriptors each); the least recently used is synced and closed.
OPEN_PARTIALS: Final = 16
#: Bytes of a partial reserved on disk in one step, ahead of its blocks: bounds how long the first block waits.
RESERVE_STEP: Final = 256 * MiB
#: Versions of one path, by size and time, of which the records are kept: the latest.
NAME_VERSIONS: Final = 32
#: Name records kept (about 250 bytes each); the oldest go first.
NAME_RECORDS: Final = 4_000_000
#: So many, of files that are neighbours, are kept together at most, and at least: fewer have a row each.
SEGMENT: Final = 512
SEGMENT_LEAST: Final = 16
#: Bytes of block digests that are remembered beside them (32 for each MiB of a file, and its path): 1 TiB of files.
REMEMBERED: Final = 32 * MiB
#: Records waiting in memory for their ctime to be written with the next transaction.
PENDING_CONFIRMATIONS: Final = 4096
#: A records database up to this size (bytes) is checked whole when it is opened.
RECORDS_CHECKED: Final = 64 * MiB
#: A newer job waits this long (seconds) for any file that another one of its sender is at to be let go of, and looks
#: this often; then it is told to come back.
CLAIM_WAIT: Final = 5.0
CLAIM_LOOK: Final = 0.25

# -- configuration -----------------------------------------------------------------------------------------
#: Bytes of a configuration file.
CONFIG_FILE: Final = 64 * KiB
#: Values of one repeatable setting.
CONFIG_ITEMS: Final = 64
#: Rules of the policy: each offer and each file is compared with all of them.
RULES: Final = 256
#: Hooks, seconds that one may run (usual, least, most), and seconds between asking it to end and ending it.
HOOKS: Final = 16
HOOK_TIME: Final = 30.0
HOOK_TIME_LEAST: Final = 1.0
HOOK_TIME_MOST: Final = 3600.0
HOOK_GRACE: Final = 2.0
#: Hooks that run at once, runs that wait for their turn, and seconds that a stop leaves them.
HOOKS_AT_ONCE: Final = 4
HOOK_QUEUE: Final = 256
HOOK_STOP: Final = 5.0
#: Stored files that an event for a hook lists, and bytes of all of them as JSON.
HOOK_FILES: Final = 100
HOOK_FILES_BYTES: Final = 64 * KiB
#: Bytes that a hook may write to standard error before nobody reads on, and the last of them, which are looked at.
HOOK_COMPLAINTS: Final = 1 * MiB
HOOK_COMPLAINT: Final = 1 * KiB
#: Connections that the kernel keeps for a listener until they are accepted (listen(2)).
LISTEN_BACKLOG: Final = 128

# -- identities and peers ----------------------------------------------------------------------------------
#: Characters of an identity as typed: it has 63, pasted ones may have white space around and in them.
IDENTITY_TEXT: Final = 256
#: Bytes of the identity key's file; in PEM the key takes 119.
KEY_FILE: Final = 4 * KiB
#: Paired peers; nobody means more, and each connection looks among them.
PEERS: Final = 4096
#: Bytes of the file of known peers: the above with long names and all their addresses.
PEERS_FILE: Final = 8 * MiB
#: Bytes of the account of quotas: a line for each of the above.
LEDGER_FILE: Final = 1 * MiB
#: Refusals of one source that come at once, seconds that the next one is held back and at most (less than the deadline
#: of a hello), seconds of quiet for which one is forgiven; refusals counted, and sources remembered.
PENALTY_FREE: Final = 5
PENALTY_FIRST: Final = 0.25
PENALTY_MOST: Final = 4.0
PENALTY_FORGIVEN: Final = 10.0
PENALTY_COUNT: Final = 12
PENALTY_SOURCES: Final = 1024
#: Seconds that an offer waits for a person, unless set otherwise, and at most.
APPROVAL_WAIT: Final = 120.0
APPROVAL_MOST: Final = 3600
#: Offers that wait at once, of one source (an IPv4 address, or the /64 of an IPv6 address), and in all.
OFFERS_PER_SOURCE: Final = 4
OFFERS_TOTAL: Final = 32
#: Offers that people were shown lately, of which is remembered what was shown.
OFFERS_SHOWN: Final = 256
#: Words in the phrase that two people compare: 24 bits, and an attacker has one try for each offer they look at.
PHRASE_WORDS: Final = 3
#: Addresses remembered of one peer, latest first, and characters in one.
PEER_ADDRESSES: Final = 8
ADDRESS: Final = 255
#: Seconds to wait for another process that is changing a state file.
LOCK_WAIT: Final = 10.0

# -- pairing -----------------------------------------------------------------------------------------------
#: Bytes of a SPAKE2 message, the side's letter included, and of a proof (HMAC-SHA256).
PAIRING_ELEMENT: Final = 33
PAIRING_PROOF: Final = 32
#: Seconds for which a pairing window is open: usual, least and most. Long enough to walk to the other machine.
PAIRING_WINDOW: Final = 120.0
PAIRING_WINDOW_LEAST: Final = 10.0
PAIRING_WINDOW_MOST: Final = 600.0
#: Seconds from the first message of an attempt to its proof: some milliseconds to compute, and a slow network.
PAIRING_ATTEMPT: Final = 10.0
#: Seconds in which our own daemon must say where it listens; without an answer its port is not told.
PAIRING_STATUS: Final = 2.0
#: Words of a code, 8 bits each: usual and most. A code is good for one guess, so 16 bits are one chance in 65,536.
PAIRING_WORDS: Final = 2
PAIRING_WORDS_MOST: Final = 4
#: Characters of a code as a person types it.
PAIRING_CODE_TEXT: Final = 128

# -- control socket ----------------------------------------------------------------------------------------
#: Bytes in one request line and in one result.
CONTROL_LINE: Final = 64 * KiB
#: Clients at once.
CONTROL_CLIENTS: Final = 16
#: Those of members of the configured group: the others are left to the daemon's own user.
CONTROL_MEMBERS: Final = 12
#: Those of one user among them, so that no member keeps the others out.
CONTROL_ONE_MEMBER: Final = 6
#: Refused connections on their way out, of users other than the daemon's own: of one such user, and of all. Beyond that
#: they are dropped without a word.
CONTROL_REFUSED_ONE: Final = 2
CONTROL_REFUSED: Final = 8
#: Requests of one client waiting for their answers.
CONTROL_PENDING: Final = 64
#: Unsent bytes for one client before its progress events are dropped, and before it is dropped itself.
CONTROL_QUEUE: Final = 256 * KiB
CONTROL_QUEUE_HARD: Final = 1 * MiB
#: Seconds for a client to finish a line it began, and for one that never reads.
CONTROL_STALL: Final = 10.0
#: Clients of the page of metrics at once, and the seconds that each may stay.
METRICS_CLIENTS: Final = 8
METRICS_TIME: Final = 10
#: Things that wait in the queue to be sent, the sources of each, and the bytes of the file that they are in.
QUEUE_ENTRIES: Final = 1000
QUEUE_SOURCES: Final = 256
#: Of these, how many are shown.
QUEUE_SOURCES_SHOWN: Final = 10
QUEUE_FILE: Final = 80 * MiB
#: Of the latter, what is left for what will be said of the entries, and the characters that are kept of that for each.
QUEUE_ROOM: Final = 8 * MiB
QUEUE_WHY: Final = 1000
#: Of them, how many are tried at once: each attempt is a process.
QUEUE_RUNNING: Final = 4
#: Seconds between the first two attempts, and at most: a peer that comes back is found within that time.
QUEUE_FIRST: Final = 5.0
QUEUE_MOST: Final = 60.0
#: Bytes of one line that an attempt says of itself.
QUEUE_LINE: Final = 1 * MiB
#: Seconds that an attempt which was told to end has for that.
QUEUE_GRACE: Final = 3.0
#: Finished jobs remembered for jobs.list.
JOBS_REMEMBERED: Final = 100
#: Characters in the id of a request, which comes back in the reply.
CONTROL_ID: Final = 64
#: Characters in a bare word, the short form of a request.
CONTROL_WORD: Final = 64
#: Bytes of a reply kept free for what is around the result: the id (each character may be escaped to six bytes).
CONTROL_ENVELOPE: Final = 1 * KiB
#: Seconds a client of the control socket waits for one answer.
CONTROL_ANSWER: Final = 10.0
#: Seconds between two tries of a client to connect while the queue of the socket is full.
CONTROL_CONNECT_AGAIN: Final = 0.02
#: Seconds between two progress events of one job, unless the subscriber says otherwise, and at most.
CONTROL_INTERVAL: Final = 1.0
CONTROL_INTERVAL_SLOWEST: Final = 3600.0
#: Connections taken in one turn of the reactor, and seconds without taking any when descriptors ran out.
ACCEPTS_PER_TURN: Final = 16
ACCEPT_PAUSE: Final = 1.0

# -- discovery ---------------------------------------------------------------------------------------------
#: Bytes of a query, padded; a reply is never longer.
DISCOVERY_QUERY: Final = 512
#: Datagrams handled in one turn of the reactor.
DATAGRAMS_PER_TURN: Final = 32
#: Replies per source and in all, per second.
REPLIES_PER_SOURCE: Final = 1
REPLIES_TOTAL: Final = 50
#: Sources remembered for the above, least recently seen forgotten first.
REPLY_SOURCES: Final = 1024
#: Peers a client lists, and addresses of one of them.
DISCOVERED: Final = 256
DISCOVERED_ADDRESSES: Final = 8
#: Bytes of a display name in a reply: its length is one byte.
DISCOVERY_NAME: Final = 255
#: Interfaces used for discovery, and hosts asked by name in one search.
DISCOVERY_INTERFACES: Final = 64
DISCOVERY_HOSTS: Final = 64
#: Seconds after the start of a search at which the query is sent, and how often after that: a responder answers
#: one source once a second, so within a second even a client that comes right behind another is answered.
DISCOVERY_QUERIES: Final = (0.0, 0.15, 0.4)
DISCOVERY_REPEAT: Final = 0.55
#: Seconds after which a responder looks again which interfaces there are, though the kernel said nothing, and between
#: the kernel's word of a change and the look: changes come in bundles.
INTERFACES_REFRESH: Final = 10.0
LINKS_SETTLE: Final = 0.1
#: Messages of the kernel about links read in one turn of the reactor.
LINK_MESSAGES: Final = 32
#: Seconds from one search to the next while somebody watches, and searches in which a peer may be missing before it is
#: said to have gone.
DISCOVERY_WATCH: Final = 5.0
DISCOVERY_MISSED: Final = 3
#: Seconds for which a name that was seen on the network is offered when a command line is completed, and bytes of the
#: file that keeps them.
SEEN_AGE: Final = 86_400.0
SEEN_FILE: Final = 512 * KiB
#: Peers that one blinded query can ask for, and such queries sent by each way: those seen last come first.
BLIND_TAGS: Final = 61
BLIND_QUERIES: Final = 4
#: Tags that a responder computes, or looks at, in a second to see whether it is meant: about a twentieth of a core.
BLIND_WORK: Final = 40_000

# -- probes ------------------------------------------------------------------------------------------------
#: Content bytes of one probe, and seconds after which whoever sends them stops early. Part of the protocol.
PROBE: Final = 16 * MiB
PROBE_SECONDS: Final = 5.0
#: Probes that a daemon takes part in at once, those of one key in PROBE_SPAN seconds, and keys remembered for that.
PROBES_AT_ONCE: Final = 2
PROBES_PER_KEY: Final = 12
PROBE_SPAN: Final = 60.0
PROBE_KEYS: Final = 1024
#: Seconds without content after which the server gives a probe up; what it sends has so long beyond PROBE_SECONDS.
PROBE_SILENCE: Final = 20.0
#: How many times its size must be free on the disk before a probe writes there.
PROBE_ROOM: Final = 10

# -- diagnosis ---------------------------------------------------------------------------------------------
#: ICMP echoes to one host, those after which a host that answers none is left alone, and seconds to wait for each.
ECHOES: Final = 5
ECHOES_UNANSWERED: Final = 3
ECHO_WAIT: Final = 1.0
#: Seconds in which a packet to everybody on a link must be heard back by its sender, and for an answer to a query.
HEARING: Final = 0.4
DOCTOR_QUERY: Final = 1.6
#: Seconds for the firewall to print its rules.
RULESET_WAIT: Final = 5.0
#: Seconds for TCP to connect: the first packet is sent again after one and three.
DOCTOR_CONNECT: Final = 5.0
#: Addresses of one peer that are looked at, and seconds between two looks for an answer.
DOCTOR_ADDRESSES: Final = 4
DOCTOR_LOOK: Final = 0.02

# -- what a person sees ------------------------------------------------------------------------------------
#: Half-lives, in seconds, of the rate that is shown (lively) and of the one the time left comes from (calm).
RATE_HALF_LIFE: Final = 1.0
ETA_HALF_LIFE: Final = 10.0
#: A time left beyond this many seconds (99 days) is not worth showing: it is unknown.
ETA_LONGEST: Final = 99 * 86400.0
#: Seconds between two drawings of the bar, and between two lines where there is no terminal.
BAR_REFRESH: Final = 0.1
PLAIN_INTERVAL: Final = 10.0
#: Failed files named one by one at the end of a run; the rest are counted.
FAILURES_SHOWN: Final = 10
#: Bytes that must have moved for a rate to say anything: below, it is the handshake that is measured.
RATE_FROM: Final = 1 * MiB
#: Seconds a run that was interrupted has to put things away before it ends all the same.
STOP_GRACE: Final = 2.0
#: Characters of a command line that is repeated as advice; a longer one is only referred to.
COMMAND_SHOWN: Final = 500

# -- demo --------------------------------------------------------------------------------------------------
#: Bytes of the large file that the demo sends: most, least, and the seconds its writing may take before it is left
#: at what it has. A quarter of the least is durable after the first sync (SYNC_BYTES): the cut hits the middle.
DEMO_BYTES: Final = 256 * MiB
DEMO_BYTES_LEAST: Final = 128 * MiB
DEMO_WRITING: Final = 3.0
#: Free space that it wants besides the file and its copy, and the floor an inbox leaves alone.
DEMO_SPARE: Final = 64 * MiB
#: Seconds between two looks at the daemon whose transfer it wants to cut, for the daemon to be ready (a second and a
#: half of processor time, which a busy machine may not have for a while; one that ends is noticed at once), and for a
#: process to end.
DEMO_LOOK: Final = 0.01
DEMO_DAEMON: Final = 60.0
DEMO_PROCESS: Final = 120.0
