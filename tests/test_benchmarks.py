"""The runner of the benchmarks works: what it says was run was run, checked, and compared. No figure is judged."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import corpus
from benchmarks.__main__ import QUICK
from benchmarks.delay import Delaying, Way
from benchmarks.finding import Curve, Finding, Scale
from benchmarks.measure import BenchmarkError, Run, Spread, alternate, ratio
from benchmarks.plot import as_svg, ticks
from benchmarks.processes import finish, run, spent, start
from benchmarks.report import Report, as_markdown, draw, put_into, reload, save

ROOT = Path(__file__).parent.parent
#: `make bench-quick`: the goals with many processes too.
ALL = "BENCH_ALL" in os.environ
GOALS = [] if ALL else ["P1", "P2", "P3", "P4", "P5", "P6", "P8"]
#: Seconds for a run, which takes 20 on a quiet machine and took 110 on a busy one: a little less than a test has.
BOUND = 380 if ALL else 280


def test_ratios_are_drawn_within_a_round() -> None:
    """A round in which everything was slow does not favour anybody."""
    ours = [Run(seconds, 0, 0) for seconds in (1.0, 10.0, 1.0)]
    theirs = [Run(seconds, 0, 0) for seconds in (2.0, 20.0, 4.0)]
    found = ratio(ours, theirs)
    assert (found.median, found.least, found.most, found.times) == (2.0, 2.0, 4.0, 3)
    assert found.inverse() == Spread(0.5, 0.25, 0.5, 3)


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


def test_who_is_slow_takes_part_in_the_first_rounds() -> None:
    """The ratio is drawn from the rounds in which both took part."""
    work = {"quick": lambda: Run(1.0, 0, 0), "slow": lambda: Run(3.0, 0, 0)}
    found = alternate(work, 4, {"slow": 2})
    assert [len(runs) for runs in found.values()] == [4, 2]
    assert ratio(found["quick"], found["slow"]).times == 2


def test_a_bound_is_judged() -> None:
    """Reached at the bound itself; what was not found is not judged."""
    finding = Finding("P0", "judging")
    finding.at_least("as fast", 1.0, 1.0)
    finding.at_most("as small", 96, 96.4, "{:.1f} MiB")
    finding.at_least("beside who is absent", 1.0, finding.ratio("nobody"))
    finding.at_least("always faster", 1.0, Spread(1.2, 1.1, 1.3, 5))
    finding.at_most("now and then quicker", 1.0, Spread(1.2, 0.9, 1.3, 5))
    assert [(one.what, one.bound, one.found, one.reached, one.spread) for one in finding.verdicts] == [
        ("as fast", "at least 1.00", "1.00", True, ""),
        ("as small", "at most 96.0 MiB", "96.4 MiB", False, ""),
        ("always faster", "at least 1.00", "1.20", True, ""),
        ("now and then quicker", "at most 1.00", "1.20", False, "0.90 to 1.30"),
    ]


@pytest.mark.parametrize(
    ("least", "most", "log", "expected"),
    [
        (1, 8192, True, [1, 10, 100, 1000, 10_000]),
        (0.4, 0.5, True, [0.2, 0.5]),
        (1, 20, True, [1, 2, 5, 10, 20]),
        (0.1, 0.1, True, [0.1, 0.2]),
        (0, 83, False, [0, 20, 40, 60, 80, 100]),
        (0, 200, False, [0, 50, 100, 150, 200]),
        (5, 5, False, [5, 6]),
    ],
)
def test_ticks_are_round_and_span_the_points(least: float, most: float, log: bool, expected: list[float]) -> None:
    """Whatever lies between the first and the last has a place on the axis."""
    assert ticks(least, most, log) == pytest.approx(expected)


def test_a_picture_has_every_point_within_its_frame() -> None:
    """It is XML, names are escaped, and points lie where their values say: more is higher up and further right."""
    curve = Curve("c", "Less < more & 'so'", "MiB", "seconds")
    curve.lines = {"one <1>": [(1, 0.5), (10, 1), (1000, 90)], "other": [(1, 1), (1000, 2)]}
    root = ElementTree.fromstring(as_svg(curve))
    ways = [line.get("points", "").split() for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(way) for way in ways] == [3, 2]
    places = [tuple(map(float, place.split(","))) for place in ways[0]]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert all(0 < x < 640 and 0 < y < 360 for x, y in places)
    said = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Less < more & 'so'", "one <1>", "other", "1,000", "MiB", "seconds"} <= said
    with pytest.raises(ValueError, match="nothing to draw"):
        as_svg(Curve("empty", "Nothing", "x", "y"))


def test_a_report_is_kept_and_published(tmp_path: Path) -> None:
    """What was written is read again; the page keeps what stands around the tables; pictures lie beside it."""
    finding = Finding("P6", "memory")
    finding.at_most("memory", 96, 70)
    curve = Curve("memory-size", "Memory", "MiB", "MiB", {"client": [(1, 60), (10, 61)]}, claim="It is flat.")
    finding.curves.append(curve)
    report = Report({"date": "today"}, Scale(1, 2, 3, 4, sizes=(1, 2)), {"P6": finding})
    file = tmp_path / "report"
    assert reload(file) is None
    save(report, file)
    assert reload(file) == report
    file.write_text("{}")
    assert reload(file) is None
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks -->\nold\n<!-- end of benchmarks -->\nafter\n")
    for _ in range(2):
        put_into(page, as_markdown(report, "pictures"))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("![Memory](pictures/memory-size.svg)\n\nIt is flat.") == 1
    assert "| P6 | memory | at most 96.00 | 70.00 | reached |" in text
    draw(report, tmp_path / "pictures")
    ElementTree.parse(tmp_path / "pictures" / "memory-size.svg")
    page.write_text("no place")
    with pytest.raises(ValueError, match="no place for the tables"):
        put_into(page, "x")


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


def test_processor_time_is_that_of_all_that_was_started() -> None:
    """A program's own, that of what it waited for, and that of what it still waits for."""
    work = "sum(range(3_000_000))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{work}'])"
    assert run([sys.executable, "-c", child]).processor > run([sys.executable, "-c", "import subprocess"]).processor
    waiting = f"{child}; subprocess.Popen([sys.executable, '-c', '{work}; print(flush=True); input()']).wait()"
    process = start([sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    before = spent(process.pid)
    process.stdin.close()
    _, after, _ = finish(process)
    assert 0 < before <= after + 0.03  # the one counts in ticks, the other in microseconds


def test_what_keeps_memory_holds_little_of_it() -> None:
    """Two pages of each MiB at most, and no longer than somebody holds its standard input."""
    holder = start([sys.executable, "-m", "benchmarks.memory", str(256 << 20)], stdin=subprocess.PIPE, stdout=-1)
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"%d bytes are in crumbs\n" % (256 << 20)
    maps = Path(f"/proc/{holder.pid}/smaps").read_text().split("VmFlags:")
    held = [int(line.split()[1]) for one in maps for line in one.splitlines() if line.startswith("Anonymous:")]
    assert 256 * 4 <= sum(held) < 40 * 1024
    holder.stdin.close()
    assert finish(holder, 10)[0] == 0


def test_a_window_is_free_again_after_a_whole_round_trip() -> None:
    """The proxy reads no more than what may be under way; what was delivered counts until it is acknowledged."""
    near, source = socket.socketpair()
    target, far = socket.socketpair()
    with near, source, target, far:
        for one in (source, target, far):
            one.setblocking(False)
        way = Way(source, target, 10.0, 1000)
        near.sendall(b"x" * 1500)
        assert way.reads
        way.take(100.0)
        assert (way.read, way.reads, way.turn(100.0)) == (1000, False, 110.0)
        with pytest.raises(BlockingIOError):
            far.recv(1)
        assert (way.turn(110.0), way.reads) == (120.0, False)
        assert len(far.recv(2000)) == 1000
        assert (way.turn(120.0), way.reads) == (None, True)
        way.take(120.0)
        near.shutdown(socket.SHUT_WR)
        way.take(120.0)
        way.turn(129.9)
        assert not way.over
        way.turn(130.0)
        assert way.over
        assert len(far.recv(2000)) == 500
        assert far.recv(1) == b""


def test_the_proxy_passes_on_and_says_when_the_first_mib_came(tmp_path: Path) -> None:
    """In both directions, whole, the ends of both too."""
    sent = corpus.large_file(tmp_path / "sent", 3_000_000).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with Delaying(port, 0.01, 1 << 20) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as near:
            far, _ = listening.accept()
            writing = threading.Thread(target=lambda: (near.sendall(sent), near.shutdown(socket.SHUT_WR)))
            writing.start()
            with far, far.makefile("rb") as stream:
                assert stream.read() == sent
                far.sendall(b"all")
            writing.join()
            with near.makefile("rb") as stream:
                assert stream.read() == b"all"
    assert len(proxy.first_mib) == 1
    assert proxy.first_mib[0] > 0


def _left(folder: Path) -> list[str]:
    """The command lines of the programs that have something below `folder` to do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
            if os.fsencode(folder) in words and int(process.name) != os.getpid():
                found.append(process.joinpath("cmdline").read_text())
    return found


@pytest.mark.parametrize("words", [("--rounds", "0"), ("--large", "-1"), ("--small", "many")])
def test_a_run_of_nothing_is_refused(words: tuple[str, str]) -> None:
    """No rounds, no files: it would take its time and say nothing."""
    done = subprocess.run([sys.executable, "-m", "benchmarks", "P1", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "is not a number above 0" in done.stderr


def test_nothing_is_left_of_an_interrupted_run(tmp_path: Path) -> None:
    """Neither a program nor a file, when only the runner hears of it."""
    words = ["--large", "1", "--rounds", "100000"]
    runner = subprocess.Popen(
        # with more rounds than anybody waits for: it is not over before it is looked at
        [sys.executable, "-m", "benchmarks", "P1", "--quick", *words, "--folder", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert runner.stderr is not None
    with runner, runner.stderr:
        for line in runner.stderr:
            if line.startswith("  round 1: ftx"):
                break
        assert _left(tmp_path)
        runner.send_signal(signal.SIGINT)
        said = runner.stderr.read()
    assert (runner.returncode, said.splitlines()[-1]) == (
        130, "interrupted; everything that was started has been ended",
    )  # fmt: skip
    deadline = time.monotonic() + 10
    while (left := _left(tmp_path)) and time.monotonic() < deadline:
        os.sched_yield()  # what was killed with its group is gone a moment later
    assert not left
    assert not list(tmp_path.iterdir())


def test_a_quick_run(tmp_path: Path) -> None:
    """The goals, small and once, with whichever peers there are: everything arrives, and all of it is in the report."""
    report = tmp_path / "report"
    command = [sys.executable, "-m", "benchmarks", *GOALS, "--quick", "--large", "8", "--small", "200"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path), "--json", str(report)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert done.returncode == 0, done.stderr
    findings = json.loads(report.read_text())["findings"]
    assert list(findings) == (GOALS or [f"P{number}" for number in range(1, 13)])
    for name in ("P1", "P2"):
        one = findings[name]
        assert "ftx" in one["runs"]
        assert set(one["ratios"]) == set(one["runs"]) - {"ftx"}
        assert f"### {name}: {one['title']}" in done.stdout
    for name in ("P1", "P2", "P3", "P4", "P5"):
        assert all(one["processor"] > 0 for runs in findings[name]["runs"].values() for one in runs)
    assert set(findings["P4"]["runs"]) >= {"ftx, 1 KiB", "ftx, 100 files", "ftx, 200 files"}
    assert set(findings["P3"]["runs"]) == {"the rest", "the whole"}
    assert set(findings["P5"]["runs"]) == {"changed", "the whole"}
    assert all(one["verdicts"] for name, one in findings.items() if name not in ("P1", "P2", "P4", "P12"))
    lines = {curve["name"]: curve["lines"] for one in findings.values() for curve in one["curves"]}
    points = {name: [len(line) for line in of.values()] for name, of in lines.items()}
    assert [points[name] for name in ("time-size", "memory-size", "time-count", "memory-count")] == [[1], [1, 1]] * 2
    if ALL:
        assert set(findings["P7"]["runs"]) == {"all at once", "one client"}
        assert [len(findings[name]["runs"]) for name in ("P9", "P10")] == [0, 4]
        assert [points[name] for name in ("time-clients", "memory-clients", "time-distance")] == [[1], [1], [2, 2]]
        assert points["time-lanes"] in ([2], [2, 2])
        assert {"default, loopback", "default, 20 ms"} <= set(findings["P12"]["runs"])
        assert len(findings["P9"]["figures"]) == 3
    assert not any(path.name.startswith("ftx-bench-") for path in tmp_path.iterdir())


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    """What was kept is not run again; the last goal is, and the whole becomes the report and the page."""
    report, page = tmp_path / "report.json", tmp_path / "page.md"
    page.write_text("<!-- benchmarks -->\n<!-- end of benchmarks -->\n")
    kept = {f"P{number}": Finding(f"P{number}", f"kept {number}") for number in range(1, 11) if number != 8}
    save(Report({}, QUICK, kept), tmp_path / "report.json.part")
    words = ["--quick", "--folder", str(tmp_path), "--json", str(report), "--page", str(page)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("P")] == ["P8", "P11", "P12"]
    found = reload(report)
    assert found is not None
    assert {name: found.findings[name].title for name in kept} == {name: one.title for name, one in kept.items()}
    assert list(found.findings) == [f"P{number}" for number in range(1, 13)]
    assert [one.what for one in found.findings["P11"].verdicts] == ["goal: the first reply is reported within"]
    assert not (tmp_path / "report.json.part").exists()
    assert "### P11: two peers discovered" in page.read_text()
