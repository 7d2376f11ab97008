"""A crowd at the door of a daemon, and what it costs: descriptors, threads, memory, processor time."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["Cost", "connect", "cost", "crowd", "processor_seconds"]


@attrs.frozen
class Cost:
    """What a process holds at a moment."""

    descriptors: int
    threads: int
    #: Resident bytes.
    resident: int


def cost(pid: int) -> Cost:
    """Of the process `pid`, from proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")

    def number(field: str) -> int:
        found = re.search(rf"^{field}:\s+(\d+)", status, re.MULTILINE)
        if found is None:
            raise AssertionError(f"no {field} in {status}")
        return int(found[1])

    return Cost(len(os.listdir(f"/proc/{pid}/fd")), number("Threads"), number("VmRSS") * 1024)


def processor_seconds(pid: int) -> float:
    """The time that the processors have given to it so far, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connect(port: int, source: str = "") -> socket.socket:
    """A TCP connection to the daemon, from any address of 127.0.0.0/8."""
    made = socket.socket()
    made.settimeout(10)
    try:
        if source:
            made.bind((source, 0))
        made.connect(("127.0.0.1", port))
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def crowd(port: int, silent: int, trickling: int, source: str = "127.0.0.9") -> Iterator[list[int]]:
    """So many connections that say nothing, and so many that send a byte of a TLS record again and again.

    Whoever is thrown out comes back at once, until the block ends. Gives a list whose one number counts the returns.
    """
    over = threading.Event()
    returns = [0]

    def again(members: list[socket.socket], place: int) -> None:
        members[place].close()
        if not over.is_set():
            members[place] = connect(port, source)
            members[place].setblocking(False)
            returns[0] += 1

    def live() -> None:
        members = [connect(port, source) for _ in range(silent + trickling)]
        for one in members:
            one.setblocking(False)
        try:
            while not over.wait(0.05):
                for place, one in enumerate(members):
                    try:
                        if place < trickling:
                            one.send(b"\x16")
                        if one.recv(1) == b"":
                            again(members, place)
                    except BlockingIOError:
                        pass
                    except OSError:
                        again(members, place)
        finally:
            for one in members:
                one.close()

    thread = threading.Thread(target=live, name="crowd")
    thread.start()
    try:
        yield returns
    finally:
        over.set()
        thread.join(30)
