"""Builds the native library of ftx (`ftx/disk/many.c`) into a wheel, or into the checkout for an editable installation.

Nothing needs it (docs/architecture.md, "In C"): where there is no compiler, where it fails and on other systems, what
is built is the same without it, and one sentence says so. `FTX_NATIVE=0` in the environment of the build leaves it out,
`FTX_NATIVE=1` makes a failure the end of the build. The compiler is `$CC`, else `cc`; `$CFLAGS` and `$LDFLAGS` come
behind the options below.

It is compiled in each build, in a folder of its own: a library that lies about is never taken, and one that has become
wrong is removed, unless nobody may change the checkout. A file that a daemon has loaded is replaced by another one, and
never written to.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

_SOURCE: Final = "ftx/disk/many.c"
_LIBRARY: Final = "ftx/disk/many.lib"  # what ends with .so is a module to Python, and ours is none
_OPTIONS: Final = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"]
#: Checks of buffers and of the stack, as distributions compile; and nothing that can be written is called through.
_HARDENED: Final = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong"]
_HARDENED_LINK: Final = ["-Wl,-z,relro,-z,now,-z,noexecstack"]
#: Seconds; it takes a fifth of one.
_PATIENCE: Final = 120
_WORDS: Final = {
    "": None,
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}


class Without(Exception):
    """Why there is no library, for people."""


def wanted() -> bool | None:
    """What `FTX_NATIVE` says: True must be, False must not be; None where it says nothing."""
    text = os.environ.get("FTX_NATIVE", "")
    if text.lower() not in _WORDS:
        raise SystemExit(f'FTX_NATIVE="{text}" is neither yes nor no')
    return _WORDS[text.lower()]


def compile_library(root: str, target: str) -> None:
    """Compile it into the file `target`; Without where that cannot be done. What the compiler says goes to stderr."""
    if sys.platform != "linux":
        raise Without("it is for Linux only")
    try:
        words = {name: shlex.split(os.environ.get(name, "")) for name in ("CC", "CFLAGS", "LDFLAGS")}
    except ValueError as error:
        raise Without(f"CC, CFLAGS or LDFLAGS cannot be read: {error}") from None
    compiler = words["CC"] or ["cc"]
    options = [*_OPTIONS, *_HARDENED, *words["CFLAGS"], _SOURCE, "-o", target, *_HARDENED_LINK, *words["LDFLAGS"]]
    try:
        done = subprocess.run(
            [*compiler, *options], cwd=root, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=_PATIENCE
        )
    except FileNotFoundError:
        raise Without(f"there is no C compiler ({compiler[0]})") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Without(f"the C compiler cannot be run: {error}") from None
    if done.returncode or not os.path.isfile(target):
        raise Without(f"the C compiler ({shlex.join(compiler)}) failed")


def _put(built: str, place: str) -> None:
    try:
        os.replace(built, place)
    except OSError as error:
        raise Without(f"it cannot be put beside its source: {error}") from None


class Library(BuildHookInterface[Any]):
    """The build hook, for wheels and for editable installations."""

    _folder: TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library, and say what that means for the wheel."""
        must = wanted()
        place = os.path.join(self.root, _LIBRARY)
        try:
            if must is False:
                raise Without("FTX_NATIVE says so")
            built = self._built(beside=place if version == "editable" else None)
            if version == "editable":
                _put(built, place)
                return
        except Without as without:
            if must:
                raise SystemExit(f"no native library, which FTX_NATIVE asks for: {without}") from None
            if version == "editable":
                with suppress(OSError):  # nothing is there, or nobody may change anything there
                    os.unlink(place)  # it was made of another source, or by another compiler
            self.app.display_warning(
                f"ftx is built without its native library: {without}; all works, and many small files take longer"
            )
            return
        # The plain one is that of this machine; the others promise which C libraries there may be elsewhere.
        platform = next(tag for tag in platform_tags() if tag.startswith("linux"))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"  # it knows no Python: any one that has ctypes loads it
        build_data["force_include"][built] = _LIBRARY

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was needed for the wheel only."""
        if self._folder is not None:
            self._folder.cleanup()

    def _built(self, *, beside: str | None) -> str:
        """The library, in a folder that lasts until the end of the build: on the file system of `beside`, if any."""
        try:
            # git ignores what ends so, whatever comes of it
            self._folder = TemporaryDirectory(suffix=".lib", dir=beside and os.path.dirname(beside))
        except OSError as error:
            raise Without(f"there is no place to build it in: {error}") from None
        built = os.path.join(self._folder.name, os.path.basename(_LIBRARY))
        compile_library(self.root, built)
        return built
