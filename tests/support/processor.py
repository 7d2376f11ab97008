"""How long the machine had no processor for a process: what a test leaves out of account that waits for one.

A daemon needs a second and a half of processor time to start. Beside twenty others on two processors that is a quarter
of a minute, and says nothing of the daemon.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["held_up"]


def held_up(*pids: int) -> float:
    """Seconds for which the threads of these processes were ready to run and no processor was free, so far.

    By `schedstat` of proc(5); 0 where the kernel does not count it, and for processes that are gone.
    """
    nanoseconds = 0
    for path in (path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")):
        with contextlib.suppress(OSError):  # that thread has ended
            nanoseconds += int(path.read_text("ascii").split()[1])
    return nanoseconds / 1e9
