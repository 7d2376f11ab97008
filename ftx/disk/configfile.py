"""Reading a configuration file: who may have written it, and how large it may be."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from ftx import limits
from ftx.disk import fds
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["invalid", "read_text", "signature"]


def invalid(subject: str, problem: str, hint: str = "") -> FtxError:
    """The error for a setting that cannot be used; `subject` says which one and where (`Origin.of`)."""
    return FtxError("config-invalid", f"{subject}: {problem}", hint)


def read_text(path: str, required: bool) -> str | None:
    """The text of a configuration file, None if there is none and none is `required`. Blocking.

    It decides who may write to this machine, so nobody but us and root may be able to change it; it is
    bounded, and a pipe or a device in its place is refused without waiting for it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise invalid(show(path), "there is no such file", "check --config") from error
        return None
    except OSError as error:
        raise invalid(show(path), f"cannot be read: {(error.strerror or 'error').lower()}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise invalid(show(path), "not a regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise invalid(show(path), "it belongs to another user", "change its owner")
        if status.st_mode & 0o002:
            raise invalid(show(path), "every user may change it", f"chmod o-w {show(path)}")
        content = b""
        while len(content) <= limits.CONFIG_FILE and (chunk := os.read(fd, limits.CONFIG_FILE + 1 - len(content))):
            content += chunk
    except OSError as error:
        raise invalid(show(path), f"cannot be read: {(error.strerror or 'error').lower()}") from error
    finally:
        fds.close(fd)
    if len(content) > limits.CONFIG_FILE:
        raise invalid(show(path), f"larger than {limits.CONFIG_FILE // limits.KiB} KiB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(show(path), "not UTF-8") from error


def signature(paths: Sequence[str]) -> tuple[tuple[int, ...] | None, ...]:
    """What stat(2) says of the files at `paths`, None where there is none: equal while nothing changed."""
    found: list[tuple[int, ...] | None] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size, status.st_mode))
    return tuple(found)
