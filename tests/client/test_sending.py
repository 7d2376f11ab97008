"""A job's events as a person and as a program see them."""

from __future__ import annotations

import json

import pytest

from ftx.client.outcome import combined
from ftx.client.output import Output
from ftx.client.sending import Report, copy_receipt, port_hint
from ftx.client.target import parse_target
from ftx.errors import FtxError
from ftx.limits import FAILURES_SHOWN
from ftx.wire.events import Accepted, Connecting, Done, ErrorInfo, Failed, FileEvent, PeerInfo, Progress, Retry

PI = PeerInfo("pi", "abcdefg", "10.0.0.7", 7389)
DONE = Done(
    peer=PI,
    result="partial",
    files=1,
    directories=0,
    bytes=10,
    bytes_wire=10,
    files_identical=0,
    files_skipped=0,
    files_failed=12,
    seconds=1.0,
    receipt=None,
    exit=9,
)
LOST = ErrorInfo(404, "connection-lost", "the connection was lost", "")


def failed_file(number: int) -> FileEvent:
    error = ErrorInfo(607, "exists", "the name is taken", "rename it")
    return FileEvent(path=f"file-{number}\x1b[2J", status="failed", error=error)


def test_results_go_to_stdout_and_everything_else_to_stderr(capfd):
    report = Report(Output(progress="none"), "pi")
    report.on_event(Connecting(peer=PI))
    report.on_event(Retry(attempt=1, delay_s=1.0, error=LOST))
    for number in range(12):
        report.on_event(failed_file(number))
    report.on_event(Progress(stage="transferring"))
    report.on_event(DONE)
    assert report.finish().exit == 9
    out, err = capfd.readouterr()
    assert out == "sent 1 of 13 files, 10 B to pi in 1.0 s, 12 failed, verified\n"
    lines = err.splitlines()
    assert lines[0] == "the connection was lost; attempt 1 in 1.0 s"
    assert lines[1] == "ftx-client: 12 files were not sent to pi:"
    assert lines[2] == "  file-0\\x1b[2J: the name is taken"
    assert lines[2 + FAILURES_SHOWN :] == ["  and 2 more", "hint: rename it"]


def test_quiet_leaves_only_what_failed(capfd):
    report = Report(Output(quiet=True), "pi")
    report.on_event(Connecting(peer=PI))
    report.on_event(Retry(attempt=1, delay_s=1.0, error=LOST))
    report.on_event(Progress(stage="transferring"))
    report.on_event(DONE)
    report.finish()
    assert capfd.readouterr() == ("", "")


def test_verbose_names_each_file(capfd):
    report = Report(Output(verbose=1, progress="none"), "pi")
    report.on_event(FileEvent(path="a", status="stored", stored_as="a"))
    report.on_event(FileEvent(path="b", status="identical", stored_as="b"))
    assert capfd.readouterr().err.splitlines() == ["stored     a", "identical  b"]


def stored(path: str, stored_as: str) -> FileEvent:
    return FileEvent(path=path, status="stored", stored_as=stored_as)


def test_a_file_that_is_there_under_another_name_is_said(capfd):
    report = Report(Output(progress="none"), "pi", into="in/here")
    report.on_event(stored("a.txt", "in/here/a.txt"))
    report.on_event(stored("b\x1b.txt", "in/here/b\x1b (1).txt"))
    report.on_event(stored("c", "in/here/c (2)"))
    report.on_event(DONE)
    report.finish()
    out, err = capfd.readouterr()
    assert "2 under another name" in out
    assert err.splitlines() == [
        "  b\\x1b.txt is in/here/b\\x1b (1).txt there",
        "  c is in/here/c (2) there",
    ]


def test_at_most_so_many_other_names_are_listed(capfd):
    report = Report(Output(progress="none"), "pi")
    for number in range(FAILURES_SHOWN + 2):
        report.on_event(stored(f"{number}", f"{number} (1)"))
    report.on_event(DONE)
    report.finish()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == FAILURES_SHOWN + 1
    assert lines[-1] == "  and 2 more; -v names them all"


def test_after_a_lost_connection_every_file_counts_once(capfd):
    report = Report(Output(progress="none"), "pi")
    for _ in range(2):
        report.on_event(Accepted(peer=PI))
        report.on_event(failed_file(1))
        report.on_event(stored("a", "a (1)"))
    report.on_event(DONE)
    report.finish()
    out, err = capfd.readouterr()
    assert "1 under another name" in out
    assert "1 file was not sent to pi:" in err


def test_a_number_behind_the_colon_is_a_folder_and_that_is_said(capfd):
    said = "7000 was taken for a folder there; for that port write: [::1]: -p 7000"
    assert port_hint("connection-refused", parse_target("[::1]:7000")) == said
    assert port_hint("name-not-found", parse_target("pi:7000")) == ""
    assert port_hint("connection-refused", parse_target("ftx://pi:7391/7000")) == ""
    report = Report(Output(progress="none"), "pi", into="7000", lone_port=7000)
    report.on_event(DONE)
    report.finish()
    assert capfd.readouterr().err == "7000 is a folder there; another port is named with -p 7000\n"


def test_json_is_one_object_a_line_and_with_several_targets_each_names_its_peer(capfd):
    report = Report(Output(json=True, progress="none"), "pi", named=True)
    for event in (Connecting(), Progress(stage="scanning"), failed_file(1), stored("a", "a (1)"), DONE):
        report.on_event(event)
    report.finish()
    out, err = capfd.readouterr()
    assert "a (1)" not in err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines] == ["connecting", "progress", "file", "file", "done"]
    assert [line["peer"]["name"] for line in lines] == ["pi"] * 5


def test_a_job_that_says_nothing_has_failed(capfd):
    result = Report(Output(progress="none"), "pi").finish()
    assert (result.peer.name, result.result, result.exit) == ("pi", "failed", 1)


def test_the_exit_code_of_a_failure_is_that_of_its_event():
    report = Report(Output(progress="none"), "pi")
    report.on_event(Failed(peer=PI, error=LOST, exit=4, resumable=True))
    assert report.finish().exit == 4


@pytest.mark.parametrize(
    ("codes", "together"), [([], 0), ([0], 0), ([0, 0], 0), ([4, 4], 4), ([0, 4], 9), ([4, 5], 9), ([9, 0], 9)]
)
def test_several_results_become_one(codes, together):
    assert combined(codes) == together


def test_a_receipt_is_copied_whole_or_not_at_all(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"receipt")
    copy_receipt(str(source), str(tmp_path / "to"))
    assert (tmp_path / "to").read_bytes() == b"receipt"
    with pytest.raises(FtxError, match="no such file") as caught:
        copy_receipt(str(tmp_path / "missing"), str(tmp_path / "other"))
    assert caught.value.exit_code == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "to"]


def test_what_arrived_of_a_file_is_told_when_it_is_cut_short(capfd):
    cut = Failed(error=ErrorInfo(402, "interrupted", "interrupted", ""), exit=130, resumable=True, files_stored=0)
    for streamed, said in ((False, "what arrived (8.0 MiB) is kept for the next run"), (True, "nothing")):
        report = Report(Output(progress="none"), "pi", streamed=streamed)
        report.on_event(Progress(stage="transferring", bytes_durable=8 << 20))
        report.on_event(cut)
        report.finish()
        assert said in capfd.readouterr().err
