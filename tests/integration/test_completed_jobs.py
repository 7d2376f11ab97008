"""Ids of jobs are completed by the shell, as the daemon has them at that moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.lab import Lab
from support.ports import free_port


def test_ids_of_jobs_are_completed_by_bash(lab: Lab, short_tmp: Path) -> None:
    """What waits and what runs; without a daemon nothing, and no error."""
    daemon = lab.daemon("home")
    source = short_tmp / "source"
    source.touch()
    target = f"ftx://127.0.0.1:{free_port()}/"
    jobs = [daemon.call("queue.add", target=target, sources=[str(source)])["job"] for _ in range(2)]
    (short_tmp / "bin").mkdir()
    program = short_tmp / "bin" / "ftx-client"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ftx "$@"\n')
    program.chmod(0o755)
    script = lab.client("completion", "bash", json=False).ends().out.read_text()

    def typed(*words: str) -> list[str]:
        line = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _ftx_client_completion ftx-client"
        done = subprocess.run(
            ["bash", "-c", f'{script}\n{line}; echo "${{COMPREPLY[@]}}"'],
            env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "FTX_HOME": str(short_tmp / "home")},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    assert sorted(typed("ftx-client", "ctl", "cancel", "''")) == sorted(jobs)
    assert typed("ftx-client", "ctl", "limit", f"job:{jobs[1][:4]}") == [f"job:{jobs[1]}"]
    daemon.kill()
    assert typed("ftx-client", "ctl", "cancel", jobs[0][:4]) == []
