"""Drive the fuzz targets by coverage: `make fuzz`, or `python tests/fuzz/run.py [TARGET…] [--seconds N]`.

Atheris (libFuzzer for Python) is an optional extra: `pip install -e '.[fuzz]'`. Each target runs in a process of its
own for so many seconds, begins with its seeds and its corpus, and what it reaches anew is kept, reduced, in
`tests/fuzz/corpus/TARGET`. An input that breaks a target is written there as well (`crash-…`), its traceback shown,
and the run ends with 1. Without atheris it says so and ends with 3; the hypothesis tests need none of this.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CORPUS = TESTS / "fuzz" / "corpus"
#: Files kept of one target: the smallest that reach everything are far fewer.
KEPT = 200
#: Bytes of an input: beyond that a parser sees nothing new, and the corpus is to stay small.
LENGTH = 4096


def _keep(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path


def _child(name: str, arguments: list[str]) -> None:
    """Inside the process of one target: atheris takes over and does not return."""
    import atheris

    with atheris.instrument_imports(include=["ftx"]):
        from support.fuzz_targets import TARGETS
    # Merging starts this command again, through a shell.
    again = shlex.join([sys.executable, __file__, "--child", name, "--"])
    atheris.Setup([again, *arguments], TARGETS[name].run)
    atheris.Fuzz()


def _run(name: str, *arguments: str) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    return subprocess.run([sys.executable, __file__, "--child", name, "--", *arguments], env=environment).returncode


def _fuzz(name: str, seconds: int) -> bool:
    """One target; whether it held."""
    from support.fuzz_targets import TARGETS

    kept = CORPUS / name
    with tempfile.TemporaryDirectory(prefix="ftx-fuzz-") as folder:
        work, small = Path(folder, "work"), Path(folder, "small")
        work.mkdir()
        small.mkdir()
        for data in TARGETS[name].seeds() + [path.read_bytes() for path in kept.glob("*")]:
            _keep(work, "", data)
        broken = Path(folder, "broken-")
        limits = [f"-max_len={LENGTH}", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]
        code = _run(name, f"-max_total_time={seconds}", f"-artifact_prefix={broken}", *limits, str(work))
        for path in Path(folder).glob("broken-*"):
            print(f"{name}: an input that breaks it: {_keep(kept, 'crash-', path.read_bytes())}", file=sys.stderr)
        if code == 0 and _run(name, "-merge=1", "-verbosity=0", str(small), str(work)) == 0:
            crashes = {path.name for path in kept.glob("crash-*")}
            for path in kept.glob("*"):
                if path.name not in crashes:
                    path.unlink()
            for path in sorted(small.iterdir(), key=lambda path: path.stat().st_size)[:KEPT]:
                _keep(kept, "", path.read_bytes())
        return code == 0


def main() -> int:
    """Run the targets one after the other; the exit code says whether all held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    if "--child" in sys.argv[1:2]:
        _child(sys.argv[2], sys.argv[4:])
        return 0
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install -e '.[fuzz]' (it has wheels for x86-64 Linux)", file=sys.stderr)
        return 3
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    from support.fuzz_targets import TARGETS

    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    failed = [name for name in options.targets or TARGETS if not _fuzz(name, options.seconds)]
    print(f"{len(options.targets or TARGETS) - len(failed)} targets held" + (f"; broken: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
