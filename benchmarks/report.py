"""What was found, for machines (JSON) and for people (Markdown)."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import attrs
import msgspec

from benchmarks.finding import Finding, Scale, Setting
from benchmarks.measure import Run, Spread
from benchmarks.plot import as_svg
from ftx.disk.many import available

__all__ = ["Report", "as_markdown", "draw", "put_into", "reload", "save", "surroundings"]

_BEGIN, _END = "<!-- benchmarks -->\n", "<!-- end of benchmarks -->\n"

_ASKED = {
    "rsync": ["rsync", "--version"],
    "OpenSSH": ["ssh", "-V"],
    "nginx": ["nginx", "-v"],
    "curl": ["curl", "--version"],
    "magic-wormhole": ["wormhole", "--version"],
}


def _said(command: Sequence[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else None


def surroundings(setting: Setting) -> dict[str, str]:
    """Where it was measured, and with which versions."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    found = {
        "date": date.today().isoformat(),
        "processor": f"{os.cpu_count()} x {model[0].partition(':')[2].strip() if model else platform.machine()}",
        "kernel": platform.release().partition("-")[0],
        "file system": _said(["stat", "-f", "-c", "%T", str(setting.folder)]) or "unknown",
        "Python": platform.python_version(),
        "ftx": f"{version('ftx-transfer')} {'with' if available() else 'without'} its native library",
        "Twisted": version("twisted"),
        "pyOpenSSL": version("pyopenssl"),
    }
    for name, command in _ASKED.items():
        said = _said(command)
        if said is not None:
            found[name] = said
    return found


@attrs.define
class Report:
    """Where it was measured, how much of everything, and what was found, by goal."""

    where: dict[str, str]
    scale: Scale
    findings: dict[str, Finding] = attrs.field(factory=dict)


def reload(file: Path) -> Report | None:
    """What was written there; None when there is nothing, or nothing that this version understands."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def save(report: Report, file: Path) -> None:
    """Everything, every single run included; the file is the old or the new one, whatever happens."""
    new = file.with_name(file.name + ".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    new.replace(file)


def _processor(runs: Sequence[Run]) -> str:
    """Medians of the seconds of processor time: of the program in front, and of what served it."""
    front, service = (statistics.median(getattr(one, side) for one in runs) for side in ("processor", "service"))
    return f"{front:.2f} + {service:.2f} s"


def _table(finding: Finding) -> list[str]:
    lines = [
        "| | median | least | most | rounds | processor | ftx is so many times as fast |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in finding.runs.items():
        seconds = Spread.of(one.seconds for one in runs)
        wall = f"{seconds.median:.2f} s | {seconds.least:.2f} s | {seconds.most:.2f} s | {seconds.times}"
        lines.append(f"| {name} | {wall} | {_processor(runs)} | {finding.ratios.get(name, '')} |")
    return lines


def _goals(findings: Sequence[Finding]) -> list[str]:
    """What was to be reached, and whether it was."""
    lines = ["| | what | bound | found | |", "| --- | --- | --- | --- | --- |"]
    for finding in findings:
        for one in finding.verdicts:
            reached = "reached" if one.reached else "**missed**"
            disagree = f", rounds disagree: {one.spread}" if one.spread else ""
            lines.append(f"| {finding.goal} | {one.what} | {one.bound} | {one.found} | {reached}{disagree} |")
    return lines


def as_markdown(report: Report, pictures: str = "") -> str:
    """The goals and whether they were reached, a table per goal, and the curves below `pictures`, if that is given.

    Ratios above 1 are in favour of ftx.
    """
    findings = list(report.findings.values())
    lines = [*_goals(findings), "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {said} |" for name, said in report.where.items()]
    for finding in findings:
        lines += ["", f"### {finding.goal}: {finding.title}"]
        lines += ["", f"On {finding.when}."]
        if finding.runs:
            lines += ["", *_table(finding)]
        others = {name: value for name, value in finding.ratios.items() if name not in finding.runs}
        said = [f"{name}: {value}" for name, value in {**others, **finding.figures}.items()]
        said += [f"{name} did not take part: {why}" for name, why in finding.absent.items()]
        if said:
            lines += ["", *(f"- {one}" for one in said)]
        for curve in finding.curves if pictures else ():
            lines += ["", f"![{curve.title}]({pictures}/{curve.name}.svg)", "", curve.claim]
    return "\n".join(lines) + "\n"


def draw(report: Report, folder: Path) -> None:
    """A picture of each curve, in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for finding in report.findings.values():
        for curve in finding.curves:
            (folder / f"{curve.name}.svg").write_text(as_svg(curve))


def put_into(page: Path, tables: str) -> None:
    """Replace what stands between the two marks of a page; ValueError where they are not there."""
    text = page.read_text()
    before, begun, rest = text.partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if not (begun and ended):
        raise ValueError(f"{page} has no place for the tables: {_BEGIN.strip()} and {_END.strip()}")
    page.write_text(f"{before}{begun}\n{tables}\n{ended}{after}")
