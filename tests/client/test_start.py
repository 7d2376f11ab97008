"""The beginning of a client, while it is still being imported."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

#: Sends itself a signal as soon as the program proper is asked for.
_EARLY = """
import os, sys
class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == "ftx.client.cli":
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Signals())
from ftx.client.start import main
main([])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_early(number: signal.Signals) -> None:
    """It ends as it would later, without a word: whoever has started it can tell that from a failure."""
    ended = subprocess.run([sys.executable, "-c", _EARLY, str(int(number))], capture_output=True, timeout=20)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, b"", b"")
