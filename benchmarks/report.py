"""What was found, for machines (JSON) and for people (Markdown)."""

from __future__ import annotations

import json
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

from benchmarks.goals import Finding, Setting

__all__ = ["as_json", "as_markdown", "surroundings"]

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
        "kernel": platform.release(),
        "file system": _said(["stat", "-f", "-c", "%T", str(setting.folder)]) or "unknown",
        "Python": platform.python_version(),
        "ftx": version("ftx-transfer"),
        "Twisted": version("twisted"),
        "pyOpenSSL": version("pyopenssl"),
    }
    for name, command in _ASKED.items():
        said = _said(command)
        if said is not None:
            found[name] = said
    return found


def as_json(where: dict[str, str], findings: Sequence[Finding]) -> str:
    """Everything, every single run included."""
    return json.dumps({"where": where, "findings": [attrs.asdict(one) for one in findings]}, indent=2) + "\n"


def as_markdown(where: dict[str, str], findings: Sequence[Finding]) -> str:
    """A table per goal. Ratios above 1 are in favour of ftx."""
    lines = ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {said} |" for name, said in where.items()]
    for finding in findings:
        lines += ["", f"### {finding.goal}: {finding.title}", ""]
        if finding.runs:
            lines += ["| | median | least | most | ftx is so many times as fast |", "| --- | --- | --- | --- | --- |"]
        for name, runs in finding.runs.items():
            seconds = [one.seconds for one in runs]
            compared = str(finding.ratios.get(name, ""))
            middle = statistics.median(seconds)
            lines.append(f"| {name} | {middle:.2f} s | {min(seconds):.2f} s | {max(seconds):.2f} s | {compared} |")
        others = {name: value for name, value in finding.ratios.items() if name not in finding.runs}
        said = [f"{name}: {value}" for name, value in {**others, **finding.figures}.items()]
        said += [f"{name} did not take part: {why}" for name, why in finding.absent.items()]
        if said:
            lines += ["", *(f"- {one}" for one in said)]
    return "\n".join(lines) + "\n"
