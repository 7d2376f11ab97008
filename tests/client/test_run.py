"""The bridge to the reactor, in processes of their own: exit codes, signals, time limits, what is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

# A test runner in the background may ignore SIGINT, and its children inherit that.
HEAD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from twisted.internet.defer import Deferred
from ftx.client.options import Options
from ftx.client.run import run
from ftx.errors import FtxError

def say(text):
    print(text, flush=True)

async def idle(reactor, stop):
    say("ready")
    await Deferred()
    return 0
"""
CALL = "\nsys.exit(run(main, Options({options}), what='cannot send to pi', resume={resume!r}))\n"


#: What is not stopped at once is waited for longer than any test here waits: who ends all the same did it at once.
PATIENT = "sys.modules['ftx.client.run'].STOP_GRACE = 600\n"


def script(body: str, options: str = "", resume: str = "ftx-client send a pi:") -> list[str]:
    return [sys.executable, "-c", HEAD + body + CALL.format(options=options, resume=resume)]


def finished(body: str, options: str = "", resume: str = "ftx-client send a pi:") -> subprocess.CompletedProcess[str]:
    command = script(body, options, resume)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def interrupted(body: str, *signals: int, options: str = "") -> tuple[int, str, str, float]:
    """Exit code, stdout, stderr and the seconds it took after the first signal, sent once `ready` was printed."""
    child = subprocess.Popen(script(body, options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    began = time.monotonic()
    child.send_signal(signals[0])
    if len(signals) > 1:
        assert child.stderr is not None
        first = child.stderr.readline()  # the second one comes after the first was answered
        child.send_signal(signals[1])
        out, err = child.communicate(timeout=60)
        return child.returncode, out, first + err, time.monotonic() - began
    out, err = child.communicate(timeout=60)
    return child.returncode, out, err, time.monotonic() - began


def test_the_exit_code_is_what_main_returns():
    done = finished("async def main(reactor, stop):\n    return 7\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


def test_an_ftx_error_is_one_sentence_a_hint_and_its_exit_code():
    done = finished("async def main(reactor, stop):\n    raise FtxError('connection-refused')\n")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "ftx-client: cannot send to pi: connection refused",
        "hint: is the daemon running there? start it with: ftx-server; if it has another port: -p PORT",
    ]


def test_anything_else_is_one_sentence_without_a_traceback():
    done = finished("async def main(reactor, stop):\n    raise KeyError('a\\x1b[2Jb')\n")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert "something went wrong inside ftx (KeyError" in done.stderr
    assert "--debug" in done.stderr


def test_debug_shows_the_traceback_cleaned():
    done = finished("async def main(reactor, stop):\n    raise KeyError('a\\x1b[2Jb')\n", "debug=True")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_says_how_to_resume_and_has_its_own_exit_code(number, code, name):
    returned, _, err, _ = interrupted(PATIENT + "main = idle\n", number)
    assert returned == code
    assert err.splitlines() == [f"ftx-client: {name}", "hint: to resume: ftx-client send a pi:"]


def test_an_ignored_sigint_stays_ignored():
    body = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
async def main(reactor, stop):
    signal.raise_signal(signal.SIGINT)
    await Deferred()
"""
    done = finished(body, "timeout=0.3")
    assert done.returncode == 10


def test_main_may_put_things_away_before_the_end():
    body = """
async def main(reactor, stop):
    try:
        await idle(reactor, stop)
    finally:
        say(f"put away after {stop.error.name}")
"""
    code, out, _, _ = interrupted(body, signal.SIGINT)
    assert (code, out) == (130, "put away after interrupted\n")


def test_a_main_that_was_done_all_the_same_has_the_last_word():
    body = """
async def main(reactor, stop):
    try:
        await idle(reactor, stop)
    except BaseException:
        return 0
"""
    assert interrupted(body, signal.SIGINT)[0] == 0


STUBBORN = """
async def main(reactor, stop):
    while True:
        try:
            await idle(reactor, stop)
        except BaseException:
            say("no")
"""


def test_a_main_that_does_not_stop_is_left_after_a_moment():
    code, _, _, seconds = interrupted(STUBBORN, signal.SIGINT)
    assert code == 130
    assert seconds > 1


@pytest.mark.case("G114")
def test_a_second_signal_leaves_at_once():
    code, _, err, _ = interrupted(PATIENT + STUBBORN, signal.SIGINT, signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err


def test_a_thread_that_hangs_does_not_keep_the_process():
    body = """
import time
async def main(reactor, stop):
    reactor.callInThread(time.sleep, 100)  # longer than anybody waits for the end
    await idle(reactor, stop)
"""
    code, _, err, _ = interrupted(body, signal.SIGTERM)
    assert code == 143
    assert "Traceback" not in err


def test_running_out_of_time_is_exit_code_10():
    done = finished("main = idle\n", "timeout=0.2")
    assert done.returncode == 10
    assert done.stderr.splitlines() == [
        "ftx-client: cannot send to pi: the time set with --timeout ran out (0.2 s)",
        "hint: to resume: ftx-client send a pi:",
    ]


def test_enough_is_a_quiet_success():
    done = finished("async def main(reactor, stop):\n    stop.enough()\n    await Deferred()\n")
    assert (done.returncode, done.stderr) == (0, "")


LOGGING = """
from twisted.logger import Logger
async def main(reactor, stop):
    Logger("ftx.test").info("told {name}", name="a\\x1b[2Jb")
    Logger("ftx.test").debug("more")
    Deferred().errback(ValueError("lost"))
    return 0
"""


@pytest.mark.parametrize(
    ("options", "told", "more"), [("", False, False), ("verbose=1", True, False), ("verbose=2", True, True)]
)
def test_the_log_is_for_those_who_ask(options, told, more):
    done = finished(LOGGING, options)
    assert done.returncode == 0
    assert ("info: told a\\x1b[2Jb" in done.stderr) is told
    assert ("debug: more" in done.stderr) is more
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_stdout_that_takes_nothing_does_not_end_the_run():
    body = """
options = Options(json=True)
async def main(reactor, stop):
    options.output.record({"a": 1})
    options.output.record({"a": 2})
    print(options.output.problem, file=sys.stderr)
    return 3
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run(script(body), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr == "standard output cannot be written: no space left on device\n"


@pytest.mark.parametrize(("options", "shown"), [("verbose=1", ["info"]), ("verbose=2", ["info", "debug"])])
def test_verbose_is_about_ftx_and_not_about_the_reactor(options, shown):
    body = """
from twisted.logger import Logger

async def main(reactor, stop):
    ours = Logger(namespace="ftx.client.test")
    ours.info("ours")
    ours.debug("ours")
    Logger(namespace="twisted.internet").info("theirs")
    return 0
"""
    assert finished(body, options).stderr.splitlines() == [f"{level}: ours" for level in shown]
    assert "theirs" in finished(body, "debug=True").stderr


def test_what_goes_on_until_it_is_interrupted_ended_well():
    """A watch: Ctrl-C is no failure there, and needs no word; SIGTERM is somebody else's."""
    body = "main = idle\nwhole = run\ndef run(*a, **k):\n    return whole(*a, endless=True, **k)\n"
    code, out, err, _ = interrupted(body, signal.SIGINT)
    assert (code, out, err) == (0, "", "")
    assert interrupted(body, signal.SIGTERM)[0] == 143
