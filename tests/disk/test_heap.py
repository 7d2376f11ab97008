"""The heap of a program, settled at its start."""

from __future__ import annotations

import subprocess
import sys

import pytest

ARENAS = """
import ctypes, sys, threading
from ftx.disk.heap import settle
settle(1000, shared=sys.argv[1] == "True")
libc = ctypes.CDLL(None)
if not hasattr(libc, "malloc_info"):
    sys.exit(77)
together = threading.Barrier(4)
def work():
    kept = [bytearray(50_000) for _ in range(20)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.parametrize("shared", [False, True])
def test_one_arena_for_all_threads_where_that_is_wanted(shared: bool) -> None:
    """Memory that four threads let go of is not four times as much."""
    done = subprocess.run([sys.executable, "-c", ARENAS, str(shared)], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("needs glibc")
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count("<heap nr=") == 1) is shared
