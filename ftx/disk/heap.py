"""The heap of this process: what a stream of megabyte blocks asks of the allocator and of the collector.

By default the C library gives memory back to the kernel as soon as a block is let go of, and gets it again, zeroed page
by page, for the next: a gigabyte sent cost 140,000 page faults that way, a sixth of the sender's processor time. And
Python's collector would look through the hundred thousand objects of Twisted and OpenSSL, which live to the end, again
and again. Both are settled once, by the programs; a library that happens to be imported changes neither.

And each thread would have an arena of its own. Whatever a client reads passes through the threads of its worker in
turn, so each of them would come to hold as much as one: 8 to 12 MiB more with small files. It has one arena for all:
they exclude each other by the interpreter lock already.
"""

from __future__ import annotations

import gc

from ftx import limits
from ftx.disk.linux import keep_freed_memory, share_arena

__all__ = ["settle"]


def settle(objects: int, *, shared: bool = False) -> None:
    """Keep up to `limits.HEAP_KEPT` bytes of freed memory, and collect garbage once per `objects` made.

    `shared`: all threads take memory from one arena. For the start of a process. Where the C library has no such
    settings (they are glibc's, mallopt(3)), only the collector is told.
    """
    gc.set_threshold(objects)
    keep_freed_memory(limits.HEAP_KEPT)
    if shared:
        share_arena()
