"""Text for people: the one cleaner for strings that came from a peer, and sizes, rates and durations.

Nothing from a peer reaches a terminal or a log except through `show()` (or `show_path()`): control characters of
all kinds, and characters that reorder or hide what is displayed, are made visible as escapes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = [
    "columns",
    "duration",
    "fitted",
    "kept",
    "parse_size",
    "path_text",
    "plural",
    "show",
    "show_path",
    "size",
]

# Cc: C0, DEL and C1 controls. Cf: bidi overrides and isolates, zero-width characters, BOM, soft hyphen, tags.
# Cs: lone surrogates (undecodable file names). Zl/Zp: line and paragraph separators. Co/Cn: no agreed glyph.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})


def show(value: str | bytes, limit: int = 200) -> str:
    """`value` made safe for a terminal or a log: one line, nothing hidden, at most `limit` characters.

    Undecodable bytes and invisible characters appear as `\\x1b`-like escapes; a backslash stays as it is, so the
    result is for reading, not for parsing back. Text that was cut ends in an ellipsis.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    cut = len(text) > limit
    out: list[str] = []
    for char in text[:limit]:
        if char.isprintable() or (char != "\u2028" and unicodedata.category(char) not in _HIDDEN):
            out.append(char)
        else:
            code = ord(char)
            if 0xDC80 <= code <= 0xDCFF:  # one byte that surrogateescape could not decode
                out.append(f"\\x{code - 0xDC00:02x}")
            elif code < 0x100:
                out.append(f"\\x{code:02x}")
            elif code < 0x10000:
                out.append(f"\\u{code:04x}")
            else:
                out.append(f"\\U{code:08x}")
    shown = "".join(out)
    if len(shown) > limit:
        shown, cut = shown[:limit], True
    return shown[: limit - 1] + "…" if cut else shown


def show_path(components: Iterable[bytes], limit: int = 200) -> str:
    """A path from the wire, cleaned by `show()` and joined with `/`."""
    return show(b"/".join(components), limit)


def path_text(components: Iterable[bytes]) -> str:
    """A path from the wire as exact-as-possible text for JSON: U+FFFD for undecodable bytes, nothing cut.

    JSON escapes control characters itself, so this is for machines; for people use `show_path()`.
    """
    return b"/".join(components).decode("utf-8", "replace")


def size(count: float) -> str:
    """`count` bytes in binary units, e.g. `0 B`, `1.5 KiB`, `212 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1023.95:
            if unit == "B":
                return f"{int(value)} B"
            return f"{value:.1f} {unit}" if abs(value) < 99.95 else f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"


#: Units of sizes as people write them: decimal, and binary with an `i`.
_UNITS: dict[str, int] = {"": 1} | {
    letter + infix: base**power
    for power, letter in enumerate("KMGTP", 1)
    for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"([0-9]{1,18}(?:[.][0-9]{1,6})?) ?([A-Za-z]{0,3})")


def parse_size(written: str) -> int:
    """Bytes in a size as people write it: `4096`, `1.5G` (decimal), `20Mi` or `20 MiB` (binary); case does not matter.

    ValueError for anything else, and for more than a signed 64-bit number holds.
    """
    match = _SIZE.fullmatch(written.strip())
    unit = "" if match is None else match[2].upper().removesuffix("B").replace("I", "i")
    if match is None or unit not in _UNITS:
        raise ValueError(f'"{written}" is not a size such as 500M or 4G')
    whole, _, part = match[1].partition(".")
    scale: int = 10 ** len(part)
    value = (int(whole) * scale + int(part or 0)) * _UNITS[unit] // scale
    if value >= 2**63:
        raise ValueError(f'"{written}" is too large')
    return value


def duration(seconds: float) -> str:
    """`seconds` as a person would say it: `0.3 s`, `42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {whole} s" if whole else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def kept(files: int, content: int) -> str:
    """What stays of a job that was given up: `3 files (1.2 MiB) are published`, or that nothing is."""
    if not files:
        return "nothing was published"
    return f"{plural(files, 'file')} ({size(content)}) {'is' if files == 1 else 'are'} published, whole and verified"


def columns(text: str) -> int:
    """How many columns of a terminal `text`, which is clean, takes: wide characters two, combining ones none."""
    return sum(_columns_of(char) for char in text)


def fitted(text: str, width: int) -> str:
    """`text`, which is clean, cut or filled to exactly `width` columns; an ellipsis stands for what was cut."""
    used = columns(text)
    if used <= width:
        return text + " " * (width - used)
    found, used = "", 0
    for char in text:
        wide = _columns_of(char)
        if used + wide > width - 1:
            break
        found, used = found + char, used + wide
    return (found + "…" + " " * (width - used - 1)) if width > 0 else ""


def _columns_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def plural(count: int, noun: str) -> str:
    """`1 file`, `2 files`; only for nouns that take a plain s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
