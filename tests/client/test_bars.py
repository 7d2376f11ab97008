"""The views of progress, on real pseudo-terminals of all widths and on no terminal at all."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator

import pytest

from ftx.client.bars import Bar, Nothing, Plain, make_view, progress_parts
from ftx.limits import BAR_REFRESH, PLAIN_INTERVAL
from ftx.wire.events import Progress

GiB = 1 << 30
MiB = 1 << 20
EVIL = "\x1b[2J\x1b]0;owned\x07\u202ecod.exe\udcff"


class Screen:
    """A pseudo-terminal of a given width, and the text written to it, which a thread reads as a terminal would."""

    def __init__(self, columns: int, rows: int = 24) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._written = b""
        self._seen = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._marks = 0

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, 1 << 16)
            except OSError:  # the other side was closed
                return
            with self._seen:
                self._written += chunk
                self._seen.notify_all()

    def text(self) -> str:
        """All that was written so far, once it is through the terminal."""
        self._marks += 1
        mark = f"\x00mark {self._marks}\x00".encode()
        self.stream.flush()
        os.write(self.stream.fileno(), mark)
        with self._seen:
            assert self._seen.wait_for(lambda: mark in self._written, timeout=10)
            written = self._written
        return re.sub(rb"\x00mark \d+\x00", b"", written).decode("utf-8", "replace")

    def lines(self) -> list[str]:
        """What stood on the current line, drawing by drawing, without spaces and cursor movements."""
        plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.text())
        return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        self._reader.join(10)
        os.close(self._master)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner's own COLUMNS would count for more than the terminals here."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen(100)
    yield made
    made.close()


def moving(confirmed: int, total: int | None = 4 * GiB, **more: object) -> Progress:
    fields: dict[str, object] = {"stage": "transferring", "files_done": 12, "files_total": 214} | more
    return Progress(bytes_confirmed=confirmed, bytes_total=total, **fields)  # type: ignore[arg-type]


def test_the_bar_names_stage_bytes_files_rate_and_time_left(screen, clock):
    bar = Bar(screen.stream, clock)
    bar.show(moving(GiB, rate=111.0 * MiB, eta_s=27.0))
    line = screen.lines()[-1]
    for part in ("transferring", "25%", "1.0 GiB/4.0 GiB", "12/214 files", "111 MiB/s", "27 s left"):
        assert part in line
    bar.close()


@pytest.mark.parametrize(
    ("columns", "there", "gone"),
    [(80, ["1.0 GiB/4.0 GiB", "111 MiB/s", "27 s left"], "files"), (60, ["1.0 GiB/4.0 GiB", "27 s left"], "MiB/s")],
)
def test_the_time_left_stays_longest_on_a_narrow_terminal(clock, columns, there, gone):
    narrow = Screen(columns)
    bar = Bar(narrow.stream, clock)
    bar.show(moving(GiB, rate=111.0 * MiB, eta_s=27.0))
    line = narrow.lines()[-1]
    bar.close()
    narrow.close()
    assert all(part in line for part in there)
    assert gone not in line


def test_somebody_is_asked(screen, clock):
    """No percentage, no rate: what is left is the time to answer."""
    bar = Bar(screen.stream, clock)
    bar.show(Progress(stage="approval", eta_s=42.2, bytes_total=1024))
    assert "waiting for approval, 42 s left" in screen.lines()[-1]
    assert "%" not in screen.text()
    bar.close()


@pytest.mark.case("K165")
def test_there_is_no_percentage_before_the_total_is_known(screen, clock):
    bar = Bar(screen.stream, clock)
    bar.show(Progress(stage="scanning", bytes_total=5 * GiB, files_total=12431))
    clock.now += 1
    bar.show(moving(GiB, None, files_total=None))
    assert "%" not in screen.text()
    assert "scanning: 5.0 GiB, 12,431 files" in screen.lines()[0]
    assert "transferring: 1.0 GiB, 12 files" in screen.lines()[-1]
    bar.close()


def test_a_hundred_percent_means_every_byte_is_confirmed(screen, clock):
    bar = Bar(screen.stream, clock)
    bar.show(moving(4 * GiB - 1))
    assert "99%" in screen.lines()[-1]
    clock.now += 1
    bar.show(moving(4 * GiB, stage="syncing"))
    assert "syncing 100%" in screen.lines()[-1]
    bar.close()


def test_more_confirmed_than_there_is_still_draws(screen, clock):
    bar = Bar(screen.stream, clock)
    bar.show(moving(5 * GiB))
    assert "100%" in screen.lines()[-1]
    bar.close()


@pytest.mark.case("K165")
def test_nothing_to_move_has_no_percentage(screen, clock):
    bar = Bar(screen.stream, clock)
    bar.show(moving(0, 0))
    assert "%" not in screen.text()
    assert "12/214 files" in screen.text()
    bar.close()


def test_it_is_drawn_at_most_ten_times_a_second_and_the_last_state_is_not_lost(screen, clock):
    bar = Bar(screen.stream, clock)
    for step in range(1000):
        clock.now += 0.001
        bar.show(moving(step * MiB))
    drawings = len([line for line in screen.lines() if "transferring" in line])
    assert 5 <= drawings <= 1 / BAR_REFRESH + 1
    clock.now += BAR_REFRESH
    bar.poll()
    assert "999 MiB/4.0 GiB" in screen.lines()[-1]
    bar.close()


@pytest.mark.case("K164")
@pytest.mark.parametrize("columns", [0, 1, 2, 10, 40, 80, 10_000])
def test_every_width_is_drawn_within_the_line(clock, columns):
    screen = Screen(columns)
    bar = Bar(screen.stream, clock)
    bar.announce("connecting to a machine with a rather long name (192.168.100.200 port 7389)")
    for step in range(5):
        clock.now += 1
        bar.show(moving(step * GiB, rate=5.0 * MiB, eta_s=400.0))
    bar.say("a line that stays")
    bar.close()
    width = max((columns or 80) - 1, 1)
    for line in screen.lines():
        assert len(line) <= width or line == "a line that stays"
    screen.close()


@pytest.mark.case("K164")
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_every_height_will_do(clock, monkeypatch, rows):
    screen = Screen(80, rows)
    monkeypatch.setattr("sys.stderr", screen.stream)
    view = make_view("bar", clock)
    view.show(moving(GiB))
    assert "25%" in screen.lines()[-1]
    view.close()
    screen.close()


@pytest.mark.case("K164")
def test_a_terminal_that_changes_its_width_is_followed(clock):
    screen = Screen(200)
    bar = Bar(screen.stream, clock)
    bar.show(moving(GiB))
    wide = len(screen.lines()[-1])
    fcntl.ioctl(screen.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    clock.now += 1
    bar.show(moving(2 * GiB))
    assert wide > 150
    assert len(screen.lines()[-1]) < 50
    bar.close()
    screen.close()


def test_lines_stand_above_the_bar(screen, clock):
    bar = Bar(screen.stream, clock)
    bar.show(moving(GiB))
    bar.say("something happened")
    assert "something happened" in screen.lines()
    assert "transferring" in screen.lines()[-1]
    bar.close()


def test_closing_leaves_nothing_of_the_bar(screen, clock):
    bar = Bar(screen.stream, clock)
    bar.show(moving(GiB))
    bar.close()
    assert screen.text().endswith("\r")
    bar.say("the end")
    assert screen.text().endswith("the end\r\n")


@pytest.mark.case("K162")
def test_a_stage_named_by_a_peer_is_cleaned(screen, clock):
    bar = Bar(screen.stream, clock)
    bar.show(moving(GiB, stage=EVIL + "{bar}{0}"))
    plain = re.sub(r"\x1b\[A", "", screen.text())
    assert "\x1b" not in plain
    assert "\u202e" not in plain
    assert "\\x1b[2J" in plain
    bar.close()


def test_a_terminal_that_goes_away_takes_only_the_bar(clock):
    master, slave = pty.openpty()
    stream = os.fdopen(slave, "w", encoding="utf-8")
    bar = Bar(stream, clock)
    os.close(master)
    for _ in range(3):
        clock.now += 1
        bar.show(moving(2 * GiB))
        bar.say("line")
    bar.close()
    with pytest.raises(OSError, match="Input/output"):
        os.write(slave, b"x")
    with contextlib.suppress(OSError):
        stream.close()


@pytest.mark.case("K164")
def test_without_a_terminal_there_is_a_line_every_ten_seconds(clock):
    stream = io.StringIO()
    plain = Plain(stream, clock)
    plain.announce("connecting to pi")
    for second in range(31):
        plain.show(moving(second * 100 * MiB, rate=100.0 * MiB))
        clock.now += 1
    lines = stream.getvalue().splitlines()
    assert lines[0] == "connecting to pi"
    assert len(lines) == 1 + 30 // PLAIN_INTERVAL
    assert lines[1] == "transferring: 24 %, 1000 MiB/4.0 GiB, 12/214 files, 100 MiB/s"


def test_none_shows_nothing_but_lines():
    stream = io.StringIO()
    view = make_view("none", stream=stream)
    assert type(view) is Nothing
    view.announce("connecting")
    view.show(moving(GiB))
    view.poll()
    view.say("kept")
    view.close()
    assert stream.getvalue() == "kept\n"


def test_the_time_left_is_only_of_the_transfer():
    assert "9.0 s left" in progress_parts(moving(1, eta_s=9.0))[1]
    assert "9.0 s left" not in progress_parts(moving(1, eta_s=9.0, stage="syncing"))[1]


@pytest.mark.parametrize("value", ["", "x", "-1", "{bar}"])
def test_variables_meant_for_tqdm_do_no_harm(value):
    script = (
        "import sys, threading\n"
        "from ftx.client.bars import make_view\n"
        "from ftx.wire.events import Progress\n"
        "view = make_view('bar')\n"
        "view.show(Progress(stage='transferring', bytes_confirmed=1, bytes_total=4))\n"
        "view.close()\n"
        "assert threading.active_count() == 1\n"
        "assert 'multiprocessing' not in sys.modules\n"
    )
    names = ("MININTERVAL", "NCOLS", "DISABLE", "BAR_FORMAT", "SMOOTHING")
    environment = os.environ | {f"TQDM_{name}": value for name in names}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "25%" in done.stderr


def test_columns_from_the_environment_count(screen, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    bar = Bar(screen.stream, clock)
    bar.show(moving(GiB))
    assert len(screen.lines()[-1]) == 59
    bar.close()
