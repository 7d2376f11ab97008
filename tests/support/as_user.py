"""Run a program of ftx as another user: `python as_user.py UID daemon|client ARGUMENTS`, started by root.

The user is in the groups that the variable AS_USER_GROUPS lists by number, and in its own.

Everything that it may import is imported before the rights are given up, since the interpreter and the checkout may lie
where that user cannot look.
"""

from __future__ import annotations

import encodings.idna
import importlib
import multiprocessing.util
import os
import pkgutil
import sys

import ftx

__all__: list[str] = []


def main() -> int:
    """Import, become the user, run."""
    user, program, *arguments = sys.argv[1:]
    for module in pkgutil.walk_packages(ftx.__path__, "ftx."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    twisted = ("twisted.internet.reactor", "twisted.internet._resolver", "twisted.internet._signals")
    for name in (*twisted, "sqlite3", "tomllib", "ifaddr", "pathspec", "difflib"):
        importlib.import_module(name)
    from ftx.client.cli import main as client
    from ftx.daemon.main import main as daemon

    os.setgroups([int(group) for group in os.environ.pop("AS_USER_GROUPS", "").split()])
    os.setgid(int(user))
    os.setuid(int(user))
    return (daemon if program == "daemon" else client)(arguments)


if __name__ == "__main__":
    _ = encodings.idna, multiprocessing.util  # imported by others only when they need them
    sys.exit(main())
