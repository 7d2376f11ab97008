"""The daemon's sandbox, in a process of its own where it is put in force; whole daemons: `test_confined.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ftx.daemon.config import Request, load
from ftx.daemon.sandbox import Sandbox, made, missing
from ftx.disk.landlock import EXECUTE, Rule, abi


def landlock() -> int:
    """The version of the kernel's Landlock, 0 without."""
    try:
        return abi()
    except OSError:
        return 0


BEGIN = """
import os, sys, tempfile
from ftx.daemon import sandbox
from ftx.daemon.config import Request, load
if sys.argv[2] == "refused":
    def restrict(*_, **__): raise OSError(1, "no")
    sandbox.restrict = restrict
from twisted.logger import globalLogBeginner, formatEvent
globalLogBeginner.beginLoggingTo([lambda event: print("log:", formatEvent(event))], redirectStandardIO=False)
box = sandbox.Sandbox()
box.begin(load(Request({"sandbox": "strict"}, sys.argv[1])))
print(box.status, os.environ.get("TMPDIR"), tempfile.tempdir, sep="|")
print(box.covers(sys.argv[1] + "/../loop", sandbox.READ))
"""


def begun(folder: Path, how: str) -> str:
    """What a process says that goes into the sandbox."""
    (folder / "loop").symlink_to("loop")
    (folder / "home" / "state").mkdir(parents=True, mode=0o700)
    text = f'[hook.one]\non = "received"\ncommand = ["/bin/true"]\n[share.s]\npath = "{folder}/loop"\n'
    (folder / "home" / "config.toml").write_text(text, "utf-8")
    command = [sys.executable, "-c", BEGIN, str(folder / "home"), how]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/bin"})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.skipif(landlock() < 2, reason="needs Landlock")
def test_a_path_that_cannot_be_looked_at_costs_its_rule_alone(tmp_path: Path) -> None:
    """A link that leads to itself: a warning of its own, and all else is in force."""
    said = begun(tmp_path, "")
    assert f"log: sandbox: {tmp_path}/loop is left out: too many levels of symbolic links" in said
    assert f"\nlandlock {landlock()}, strict" in said
    temporary = str(tmp_path / "home" / "state" / "tmp")
    assert f"|{temporary}|{temporary}\nFalse\n" in said


@pytest.mark.skipif(landlock() < 2, reason="needs Landlock")
def test_a_refusal_of_the_kernel_changes_no_environment(tmp_path: Path) -> None:
    """Temporary files stay where they were."""
    assert "none: the kernel has no Landlock for us: no|None|None\n" in begun(tmp_path, "refused")


def test_every_path_of_a_hook_counts(tmp_path: Path) -> None:
    """What a new hook names besides its program needs a restart like the program itself."""
    (tmp_path / "home").mkdir(mode=0o700)
    script = tmp_path / "new.sh"
    script.write_text("", "utf-8")
    text = f'[hook.one]\non = "received"\ncommand = ["/bin/sh", "{script}", "/not there", "-x"]\n'
    (tmp_path / "home" / "config.toml").write_text(text, "utf-8")
    config = load(Request({}, str(tmp_path / "home")))
    sandbox = Sandbox()
    sandbox._allowed = [("/usr", EXECUTE), ("/bin", EXECUTE)]
    assert missing(sandbox, config) == {"hook one": str(script)}
    sandbox._allowed.append((str(script), EXECUTE))
    assert missing(sandbox, config) == {}
    assert Rule(str(script), EXECUTE) in list(made(config))
