"""`python -m ftx.client.bound PID …` is `ftx-client …` for as long as the process PID, which has started it, lives.

What ends that process, be it SIGKILL or the lack of memory, sends SIGTERM to this one (prctl(2), PR_SET_PDEATHSIG): it
tells the peer and leaves, as when it is asked to.
"""

from __future__ import annotations

import os
import signal
import sys

from ftx.client.start import main

__all__ = ["bind"]


def bind(parent: int) -> bool:
    """End with the process `parent`; False when that has gone already. OSError where the system cannot."""
    from ftx.disk.linux import end_with_parent

    end_with_parent(signal.SIGTERM)
    return os.getppid() == parent


if __name__ == "__main__":
    if not bind(int(sys.argv.pop(1))):
        sys.exit(128 + signal.SIGTERM)
    sys.exit(main())
