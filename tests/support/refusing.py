"""Run the daemon where the kernel refuses some system calls: `python refusing.py ERRNO CALLS... -- OPTIONS`.

A seccomp(2) filter answers them with ERRNO, as an old kernel (`ENOSYS`) or a sandbox (`EPERM`) does, for this process
and its children. CALLS are names in `CALLS`; `tmpfile` is openat(2) with O_TMPFILE. It ends with 77 where there is no
such filter to be had.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

__all__ = ["CALLS", "refuse"]

#: The numbers of the system calls, by machine.
CALLS = {
    "x86_64": {"openat2": 437, "renameat2": 316, "syncfs": 306, "fallocate": 285, "tmpfile": 257},
    "aarch64": {"openat2": 437, "renameat2": 276, "syncfs": 267, "fallocate": 47, "tmpfile": 56},
}
_TMPFILE = 0o20000000
_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_NUMBER, _THIRD_ARGUMENT = 0, 32


def refuse(number: int, calls: list[str]) -> bool:
    """Let the kernel answer `calls` with the errno `number` from now on; False where that cannot be done."""
    numbers = CALLS.get(platform.machine())
    if numbers is None:
        return False
    program = [(_LOAD, 0, 0, _NUMBER)]
    for call in calls:
        if call == "tmpfile":
            program += [
                (_EQUAL, 0, 3, numbers[call]),
                (_LOAD, 0, 0, _THIRD_ARGUMENT),
                (_BITS, 0, 1, _TMPFILE),
                (_RETURN, 0, 0, _ERRNO | errno.EOPNOTSUPP),
                (_LOAD, 0, 0, _NUMBER),
            ]
        else:
            program += [(_EQUAL, 0, 1, numbers[call]), (_RETURN, 0, 0, _ERRNO | number)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_SECCOMP, _FILTER, ctypes.byref(filter_), 0, 0) == 0)


def main() -> int:
    """Refuse, see that it is refused, run the daemon."""
    end = sys.argv.index("--")
    number = getattr(errno, sys.argv[1])
    calls = sys.argv[2:end]
    from ftx.daemon.main import main as daemon
    from ftx.disk import linux

    if not refuse(number, calls):
        return 77
    if "openat2" in calls:
        try:
            os.close(linux.openat2(os.open("/", os.O_RDONLY), b".", os.O_RDONLY, 0, linux.RESOLVE_BENEATH))
        except OSError as error:
            if error.errno != number:
                raise
        else:
            return 77
    return daemon(sys.argv[end + 1 :])


if __name__ == "__main__":
    sys.exit(main())
