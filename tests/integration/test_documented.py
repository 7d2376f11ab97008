"""The examples of the documents run, as they are printed, against real daemons."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support.lab import Lab, until

ROOT = Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"
EMBEDDING = ROOT / "docs" / "embedding.md"


def block(path: Path, marker: str) -> str:
    """The fenced block behind the comment `marker`."""
    found = re.findall(rf"^<!-- {re.escape(marker)} -->\n```\w*\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    assert len(found) == 1, marker
    return str(found[0])


def _run(*words: str | Path, cwd: Path, environ: dict[str, str] | None = None, given: str = "") -> str:
    """The standard output of a command that ends well."""
    done = subprocess.run(
        [str(word) for word in words],
        input=given,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | (environ or {}),
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_control_from_the_readme(lab: Lab) -> None:
    """The lines of Python, and the line of shell where there is a socat, get answers from a daemon."""
    lab.daemon("home", "--control", str(lab.root / "ftx" / "control.sock"))
    environ = {"XDG_RUNTIME_DIR": str(lab.root)}
    program = block(README, "control")
    assert len(program.splitlines()) == 5
    assert _run(sys.executable, "-c", program, cwd=lab.root, environ=environ) == "[]\n"
    (shell,) = re.findall(r"^echo status \|.*$", README.read_text("utf-8"), re.M)
    if shutil.which("socat") is not None:
        assert '"result":{"version"' in _run("bash", "-c", shell, cwd=lab.root, environ=environ)


def test_sending_from_another_program(lab: Lab) -> None:
    """The example of docs/embedding.md sends, and says why it cannot."""
    daemon = lab.daemon()
    (lab.root / "file").write_text("content")
    program = lab.root / "sending.py"
    program.write_text(block(EMBEDDING, "example: sending"))
    environ = {"FTX_HOME": str(daemon.home)}
    said = _run(sys.executable, program, "file", daemon.url, cwd=lab.root, environ=environ)
    assert said.splitlines() == ["stored file", "1 files, 7 bytes"]
    assert (daemon.inbox / "file").read_text() == "content"
    said = _run(sys.executable, program, "missing", daemon.url, cwd=lab.root, environ=environ)
    assert said.startswith("source-missing missing does not exist")



def test_getting(lab: Lab) -> None:
    """The listing, then the files, event by event."""
    made = lab.root / "tree"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "file").write_text("content")
    (made / "left.tmp").write_text("out")
    daemon = lab.daemon("home", f"--share=s={made}")
    program = lab.root / "getting.py"
    program.write_text(block(EMBEDDING, "example: getting"))
    environ = {"FTX_HOME": str(lab.root / "home")}
    said = _run(sys.executable, program, daemon.url, "s", lab.root / "out", cwd=lab.root, environ=environ)
    assert "folder None s/sub\nfile 7 s/sub/file\n" in said
    assert said.endswith("1 files, 7 bytes\n")
    assert [path.name for path in (lab.root / "out" / "s").rglob("*") if path.is_file()] == ["file"]


def test_receiving_in_another_application(lab: Lab) -> None:
    """The .tac file of docs/embedding.md runs under twistd and receives."""
    (lab.root / "mine.tac").write_text(block(EMBEDDING, "example: receiving"))
    log = lab.root / "log"
    twistd = "from twisted.scripts.twistd import run; run()"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", twistd, "-n", "--pidfile=", "-y", "mine.tac"],
            cwd=lab.root,
            stdout=file,
            stderr=file,
        )
    try:
        ready = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
        found = until(lambda: ready.search(log.read_text("utf-8")), "the application is ready")
        (lab.root / "file").write_text("content")
        lab.client("send", "file", f"ftx://127.0.0.1:{found[1]}", home="ftx-home").ends()
        assert (lab.root / "ftx-home" / "inbox" / "file").read_text() == "content"
    finally:
        process.terminate()
        process.wait(20)


def test_machines_alone(tmp_path: Path) -> None:
    """Two sessions speak to each other without a network, and without Twisted."""
    program = block(EMBEDDING, "example: machines") + "import sys\nprint('twisted' in sys.modules)"
    said = _run(sys.executable, "-c", program, cwd=tmp_path)
    assert said.splitlines() == [
        "server heard: desk",
        "client heard: attic",
        "server heard: Goodbye and is in stage CLOSED",
        "False",
    ]
