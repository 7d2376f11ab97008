"""Counters and gauges as text, in the Prometheus exposition format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ftx.daemon.view import Metric

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


def exposition(metrics: Sequence[Metric]) -> str:
    """`metrics` as text, ended by a newline. Those of one name must stand together; they share one heading.

    A name that the format does not allow is our own mistake and raises ValueError.
    """
    lines: list[str] = []
    heading = ""
    for metric in metrics:
        if not _NAME.fullmatch(metric.name):
            raise ValueError(f"not a metric name: {metric.name!r}")
        if metric.name != heading:
            heading = metric.name
            lines.append(f"# HELP {metric.name} {metric.help.translate(_HELP_ESCAPES)}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
        labels = ",".join(f'{key}="{value.translate(_LABEL_ESCAPES)}"' for key, value in metric.labels.items())
        lines.append(f"{metric.name}{f'{{{labels}}}' if labels else ''} {_number(metric.value)}")
    return "".join(line + "\n" for line in lines)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
