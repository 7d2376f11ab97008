"""The runner of the benchmarks works: what it says was run was run, checked, and compared. No figure is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import corpus
from benchmarks.measure import BenchmarkError, Run, alternate, ratio, run

ROOT = Path(__file__).parent.parent


def test_ratios_are_drawn_within_a_round() -> None:
    """A round in which everything was slow does not favour anybody."""
    ours = [Run(seconds, 0, 0) for seconds in (1.0, 10.0, 1.0)]
    theirs = [Run(seconds, 0, 0) for seconds in (2.0, 20.0, 4.0)]
    found = ratio(ours, theirs)
    assert (found.median, found.least, found.most, found.pairs) == (2.0, 2.0, 4.0, 3)


def test_who_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """One bad run spoils all of a contestant's, and none of another's."""
    turns = iter([Run(1.0, 0, 0), BenchmarkError("lost a byte")])

    def unsteady() -> Run:
        match next(turns):
            case BenchmarkError() as error:
                raise error
            case one:
                return one

    found = alternate({"steady": lambda: Run(2.0, 0, 0), "unsteady": unsteady}, 3)
    assert list(found) == ["steady"]
    assert len(found["steady"]) == 3
    assert "unsteady is left out: lost a byte" in capsys.readouterr().err


def test_a_program_that_fails_is_no_run() -> None:
    """Its last words are in the error."""
    with pytest.raises(BenchmarkError, match=r"ended with 3:\nalas"):
        run([sys.executable, "-c", "print('alas'); raise SystemExit(3)"])
    assert run([sys.executable, "-c", "raise SystemExit(3)"], codes=(3,)).memory > 1 << 20


def test_a_byte_that_is_wrong_is_found(tmp_path: Path) -> None:
    """In a large file and in a tree; a file too many as well."""
    one = corpus.large_file(tmp_path / "one", 3_000_001)
    other = corpus.large_file(tmp_path / "other", 3_000_001)
    corpus.check_file(one, other)
    with other.open("r+b") as file:
        file.seek(2_000_000)
        file.write(b"?")
    with pytest.raises(BenchmarkError):
        corpus.check_file(one, other)
    tree, copy = (corpus.small_files(tmp_path / name, 250) for name in ("tree", "copy"))
    corpus.check_tree(tree, copy)
    (copy / "00001" / "more").write_bytes(b"")
    with pytest.raises(BenchmarkError):
        corpus.check_tree(tree, copy)


def test_a_quick_run(tmp_path: Path) -> None:
    """All goals, small and once, with whichever peers there are: everything arrives, and all of it is in the report."""
    report = tmp_path / "report"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--large", "8", "--small", "200"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path), "--json", str(report)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    findings = {one["goal"]: one for one in json.loads(report.read_text())["findings"]}
    assert list(findings) == ["P1", "P2", "P3", "P4", "P8", "P10"]
    for name in ("P1", "P2", "P4"):
        one = findings[name]
        assert "ftx" in one["runs"]
        assert set(one["ratios"]) == set(one["runs"]) - {"ftx"}
        assert f"### {name}: {one['title']}" in done.stdout
    assert set(findings["P3"]["runs"]) == {"the rest", "the whole"}
    assert set(findings["P10"]["runs"]) == {"near", "far"}
    assert not any(path.name.startswith("ftx-bench-") for path in tmp_path.iterdir())
