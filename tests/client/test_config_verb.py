"""`config show` and `config init`, by the real program."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

from ftx.disk.settings import ROWS


def run(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ftx.client.cli", "--home", str(home), *words]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FTX_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=ours | environ)


def test_a_file_to_begin_with_and_what_is_in_force(tmp_path: Path) -> None:
    """The file changes nothing by itself; each setting in it can be uncommented; what is set shows, and where."""
    home = tmp_path / "home"
    made = run(home, "config", "init")
    path = home / "config.toml"
    assert (made.returncode, made.stdout.strip()) == (0, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text("utf-8")
    assert tomllib.loads(text) == {}
    examples = [line[1:] for line in text.splitlines() if line.startswith("#") and line[1:2] != " " and " = " in line]
    assert {line.partition(" = ")[0] for line in examples} >= set(ROWS)
    assert set(tomllib.loads("\n".join(examples))) >= set(ROWS), "uncommented, each is one"
    shown = map(json.loads, run(home, "config", "show", "--json").stdout.splitlines())
    assert tomllib.loads("\n".join(examples)) == {row["key"]: row["value"] for row in shown}, "each line is the default"
    again = run(home, "config", "init")
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    path.write_text('name = "attic \\"A\\""\nlisten = ["tcp:1", "tcp:2"]\ndrain_timeout = 2\n', "utf-8")
    told = run(home, "config", "show", "--origin", FTX_ACCEPT="own")
    lines = told.stdout.splitlines()
    assert f'name = "attic \\"A\\""  # {path}' in lines
    assert 'accept = "own"  # FTX_ACCEPT' in lines
    assert f'#inbox = "{home}/inbox"  # default' in lines
    assert '#conflict = "rename"  # default' in lines
    parsed = tomllib.loads(told.stdout)
    assert parsed == {"name": 'attic "A"', "listen": ["tcp:1", "tcp:2"], "drain_timeout": 2.0, "accept": "own"}
    rows = {row["key"]: row for row in map(json.loads, run(home, "config", "show", "--json").stdout.splitlines())}
    assert (rows["name"]["value"], rows["name"]["origin"]) == ('attic "A"', str(path))
    assert (rows["inbox"]["value"], rows["inbox"]["origin"]) == (f"{home}/inbox", "default")
    assert set(rows) >= set(ROWS)


def test_a_mistake_is_named_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('acept = "own"\n', "utf-8")
    (tmp_path / "config.toml").chmod(0o600)
    told = run(tmp_path, "config", "show")
    assert told.returncode == 2
    assert "unknown key acept" in told.stderr
    assert "did you mean accept?" in told.stderr


def test_shares_of_tables_show_as_what_the_file_could_say(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    tables = f'[share."my music"]\npath = "{tmp_path}/m"\npublic = true\n[share.b]\npath = "{tmp_path}/b"\n'
    path.write_text(tables, "utf-8")
    path.chmod(0o600)
    told = run(tmp_path, "config", "show", "--origin")
    assert told.returncode == 0, told.stderr
    said = tomllib.loads(told.stdout)["share"]
    assert said == tomllib.loads(path.read_text("utf-8"))["share"]
    rows = {row["key"]: row for row in map(json.loads, run(tmp_path, "config", "show", "--json").stdout.splitlines())}
    assert [(one["name"], one["public"]) for one in rows["share"]["value"]] == [("my music", True), ("b", False)]
