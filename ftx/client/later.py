"""`send --later`: what is to be sent is left with the daemon of this machine, which tries until the peer has it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ftx.client.alike import alike
from ftx.client.configured import control_path
from ftx.client.control import all_pages, call
from ftx.client.ctl_text import job_name, queue_line
from ftx.client.options import Options
from ftx.client.target import parse_target
from ftx.core.peers import fold
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["leave"]


async def leave(
    reactor: Any, options: Options, sources: Sequence[str], targets: Sequence[str], wishes: Mapping[str, Any]
) -> int:
    """Put `sources` into the queue of the daemon, once for each target; returns 0.

    `wishes` are parameters of `queue.add`; those that are None are left to the daemon. Raises `source-missing`,
    `no-such-peer` for a bare name that the daemon has not paired, `no-daemon`, and whatever else the daemon answers
    with.
    """
    paths = [os.path.abspath(os.fsencode(source)) for source in sources]
    for path, source in zip(paths, sources, strict=True):
        if not os.path.lexists(path):
            raise FtxError("source-missing", f"{show(source)} does not exist")
    params = {name: value for name, value in wishes.items() if value is not None}
    params["sources"], params["sources_b64"] = _as_text(paths)
    path_of_daemon = control_path(options)
    await _check_names(reactor, path_of_daemon, targets)
    for target in targets:
        entry = await call(reactor, path_of_daemon, "queue.add", {**params, "target": target})
        options.output.record(entry)
        options.output.result(f"queued: {queue_line(entry)}")
        options.output.note(f"to see how it goes: ftx-client ctl queue; to take it back: {_take_back(entry)}")
    return 0


async def _check_names(reactor: Any, path: str, targets: Sequence[str]) -> None:
    """A name must be a paired one: whoever is mistyped would be tried until somebody looks. Nothing is looked up.

    What looks like an address, a URL or an identity is taken as it is.
    """
    parsed = [parse_target(target, option=True) for target in targets]
    names = [one.name for one in parsed if one.id is None and (one.kind == "name" or one.pinned)]
    if not names:
        return
    found = await all_pages(reactor, path, "peers.list", "peers")
    known = [str(peer.get("name")) for peer in found["peers"]]
    for name in names:
        if fold(name) not in map(fold, known):
            hint = f"if it is a host: ftx://{show(name)}/; the names there are: ftx-client peers list"
            said = f"the daemon knows no peer {show(name)}, so nothing was left with it"
            raise FtxError("no-such-peer", said, alike(name, known) or hint)


def _take_back(entry: Mapping[str, Any]) -> str:
    return f"ftx-client ctl queue remove {job_name(entry.get('job'))}"


def _as_text(paths: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """Those that are text as they are, and the others as base64 of their bytes."""
    import base64

    plain: list[str] = []
    encoded: list[str] = []
    for path in paths:
        try:
            plain.append(path.decode())
        except UnicodeDecodeError:
            encoded.append(base64.b64encode(path).decode())
    return plain, encoded
