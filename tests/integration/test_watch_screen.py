"""`ctl watch` in a real terminal: tmux draws what a person would see."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import Lab, until


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_in_a_terminal(lab: Lab, short_tmp: Path) -> None:
    """The screen follows the size of the terminal; `q` gives it back as it was, and so does a daemon that stops."""
    daemon = lab.daemon("home", "--name=attic")
    server = ["tmux", "-L", f"ftx-{short_tmp.name}", "-f", "/dev/null"]
    log = short_tmp / "ended"
    command = f"{sys.executable} -m ftx --home {short_tmp / 'home'} ctl watch; echo $? >> {log}; stty -a >> {log}; cat"

    def shown() -> str:
        return subprocess.run([*server, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout

    subprocess.run([*server, "new-session", "-d", "-x", "80", "-y", "12", command], check=True)
    try:
        until(lambda: "ftx attic   0 active" in shown(), "the screen", interval=0.1)
        until(lambda: shown().splitlines()[11:] == ["q quits"], "its last line", interval=0.1)
        subprocess.run([*server, "resize-window", "-x", "40", "-y", "6"], check=True)
        until(lambda: shown().splitlines()[5:6] == ["q quits"], "the screen in another size", interval=0.1)
        subprocess.run([*server, "send-keys", "q"], check=True)
        # The last words of stty(1), of all that it says: echo comes before them.
        until(lambda: log.exists() and "extproc" in log.read_text(), "the end")
        assert log.read_text().startswith("0\n")
        assert " icanon" in log.read_text()
        assert " echo " in log.read_text()
        until(lambda: "q quits" not in shown(), "the terminal as it was: tmux draws when it comes to it", interval=0.1)
    finally:
        subprocess.run([*server, "kill-server"], check=False)
    daemon.clean_log()
