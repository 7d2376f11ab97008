"""What is sent: random bytes, made once per run of the benchmarks, and the proof that they arrived."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from blake3 import blake3

from benchmarks.measure import BenchmarkError

__all__ = ["SPARE", "available", "change", "check_file", "check_tree", "large_file", "room", "small_files"]

_PIECE = 1 << 20
_NOISE = 7 * _PIECE
#: Bytes of memory left to the machine and to its programs.
SPARE = 2 << 30


def available() -> int:
    """Bytes of memory that programs can have, by the kernel's reckoning (proc_meminfo(5))."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024


def room(folder: Path, size: int) -> bool:
    """Whether `size` more bytes fit there; in memory, they must be free there too."""
    return shutil.disk_usage(folder).free >= size + SPARE and available() >= size + SPARE


def large_file(path: Path, size: int, seed: int = 1, copies: int = 0) -> Path:
    """A file of `size` bytes that cannot be compressed, no two MiB of it alike; the same for the same seed.

    BenchmarkError where there is no room for it and for so many copies.
    """
    if size >= SPARE // 2 and not room(path.parent, (1 + copies) * size):
        raise BenchmarkError(f"there is no room for {1 + copies} times {size / (1 << 20):,.0f} MiB in {path.parent}")
    span = min(_NOISE, max(size, 1))
    dice = random.Random(seed)
    # little of it: the peak memory of a program counts what its parent had when it was started (getrusage(2))
    noise = b"".join(dice.randbytes(_PIECE) for _ in range(-(-span // _PIECE) + 1))
    with path.open("wb") as file:
        for start in range(0, size, _PIECE):
            first = start // _PIECE * 104_729 % span
            head = start.to_bytes(8, "big")
            file.write((head + noise[first : first + _PIECE - len(head)])[: size - start])
    return path


def change(path: Path, turn: int) -> None:
    """Write eight bytes into every hundredth block of 1 MiB of the file, other ones for every `turn`."""
    blocks = -(-path.stat().st_size // _PIECE)
    with path.open("r+b") as file:
        for block in range(turn % blocks, blocks, 100):
            file.seek(block * _PIECE)
            file.write((turn + 1).to_bytes(8, "little"))


def small_files(folder: Path, count: int, size: int = 4096, seed: int = 2) -> Path:
    """`count` files of `size` bytes, a hundred in each folder."""
    source = random.Random(seed)
    for number in range(count):
        below = folder / f"{number // 100:05d}"
        if number % 100 == 0:
            below.mkdir(parents=True)
        (below / f"{number:07d}").write_bytes(source.randbytes(size))
    return folder


def _digest(path: Path) -> str:
    # read in pieces: the peak memory of a program counts what its parent had when it was started (getrusage(2))
    digest = blake3(max_threads=blake3.AUTO)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def check_file(source: Path, copy: Path) -> None:
    """BenchmarkError unless both have the same content."""
    if not copy.is_file() or _digest(source) != _digest(copy):
        raise BenchmarkError(f"{copy.name} did not arrive as it was sent")


def check_tree(source: Path, copy: Path) -> None:
    """BenchmarkError unless both have the same files with the same content."""
    for folder, names, files in os.walk(source):
        there = copy / Path(folder).relative_to(source)
        if not there.is_dir() or sorted(os.listdir(there)) != sorted(names + files):
            raise BenchmarkError(f"{there} did not arrive as it was sent")
        for name in files:
            if Path(folder, name).read_bytes() != (there / name).read_bytes():
                raise BenchmarkError(f"{there / name} did not arrive as it was sent")
