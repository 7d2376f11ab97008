"""Run a function as a user who has no rights here: root, whom nothing is forbidden, cannot show a refusal."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

__all__ = ["as_nobody"]

NOBODY = 65534


def as_nobody(action: Callable[[], str]) -> str:
    """What `action()` returns in a forked child with the uid and gid 65534 (or our own, if we are not root).

    AssertionError with the child's traceback when it raises.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # never returns: the parent's tests must not go on twice
        code = 1
        try:
            os.close(reading)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            answer = action()
            code = 0
        except BaseException:
            answer = traceback.format_exc()
        os.write(writing, answer.encode("utf-8", "backslashreplace")[:60000])
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode("utf-8")
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise AssertionError(f"in the other user's process:\n{answer}")
    return answer
