"""The contract with users and scripts: every name they were promised, and which of them are not built yet.

`CONTRACT` is the list of promised names, `NOT_YET` what of it is missing, on purpose and by name. A name that goes
away, and one that arrives without being taken from `NOT_YET`, fails: nothing changes unannounced. Names beyond the
contract may be added. What is missing is absent altogether: in no help text, and a usage error when it is given.
"""

from __future__ import annotations

from collections.abc import Set
from importlib.metadata import entry_points
from typing import Final

import click
import msgspec
import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

from ftx.client.cli import cli
from ftx.daemon.commands import METHODS
from ftx.daemon.tap import Options
from ftx.daemon.view import JobInfo, StatusResult
from ftx.disk.settings import ROWS
from ftx.errors import KINDS
from ftx.wire.events import Event

#: What was promised, by subject.
CONTRACT: Final[dict[str, str]] = {
    "commands": "ftx-client ftx-server twistd:ftx",
    "daemon options": (
        "home config name listen inbox share accept conflict discovery-port no-discovery discovery-interface "
        "control control-packet no-control limit-in limit-out drain-timeout"
    ),
    "accept": "own paired ask",
    "conflict": "fail skip rename backup overwrite",
    "verbs": "send put push get pull receive ls discover pair peers id hash verify doctor demo ctl completion config",
    "global options": (
        "--home -v --verbose -q --quiet --json --progress --color --no-input -y --yes --timeout --retries -V "
        "--version -h --help --discovery-port --discovery-interface"
    ),
    "send": (
        "--to --into -p --name --conflict --dry-run --exclude --links --limit --compress --receipt --later "
        "--checksum"
    ),
    "discover": "--wait --watch",
    "id": "--renew",
    "peers": "list add remove rename show",
    "ctl": "status jobs watch pause resume cancel limit pairing reload drain shutdown call",
    "completion": "bash zsh fish",
    "exit codes": "1 2 3 4 5 6 7 8 9 10 11 12 130 143",
    "error names": "no-space exists untrusted busy digest-mismatch over-offer superseded bad-name identity-copied",
    "events": (
        "connecting connected offered waiting accepted refused progress file retry done failed summary snapshot "
        "peer"
    ),
    "event": "v event time job peer",
    "event offered": "files bytes",
    "event progress": "stage bytes_confirmed bytes_durable bytes_sent bytes_total files_done files_total rate eta_s",
    "event file": "path path_b64 stored_as size digest status error",
    "event retry": "attempt delay_s error",
    "event done": (
        "result files directories bytes bytes_wire files_identical files_skipped files_failed seconds receipt "
        "exit"
    ),
    "event failed": "error exit resumable",
    "event summary": "exit targets",
    "event snapshot": "jobs offers",
    "event peer": "name id address port verified paired via interface versions",
    "methods": (
        "daemon.status daemon.reload daemon.drain daemon.shutdown daemon.log_level jobs.list jobs.show jobs.pause "
        "jobs.resume jobs.cancel offers.list offers.approve offers.deny peers.list "
        "peers.add peers.remove pairing.open pairing.close queue.add queue.list queue.remove events.subscribe "
        "metrics.get rpc.discover"
    ),
    "status": (
        "version name id pid uptime_s listening discovery inbox shares jobs bytes_in bytes_out limits "
        "peers_paired"
    ),
    "job": "job state peer direction files bytes_total bytes_confirmed bytes_durable rate path",
}
#: What of it is not built yet.
NOT_YET: Final[dict[str, str]] = {
}


def _options(command: click.Command) -> Set[str]:
    return {name for param in command.params for name in param.opts if isinstance(param, click.Option)}


def _group(name: str) -> click.Group:
    command = cli.commands[name]
    assert isinstance(command, click.Group)
    return command


def _fields(struct: type[msgspec.Struct]) -> Set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def _built(subject: str) -> Set[str]:
    """The names there are."""
    if subject.startswith("event "):
        by_name = {str(event.__struct_config__.tag): event for event in Event.__subclasses__()}
        return _fields(by_name[subject.removeprefix("event ")])
    match subject:
        case "commands":
            scripts = {point.name for point in entry_points(group="console_scripts", module="ftx.client.start")}
            scripts |= {point.name for point in entry_points(group="console_scripts", module="ftx.daemon.main")}
            return scripts | {f"twistd:{maker.tapname}" for maker in getPlugins(IServiceMaker)}
        case "daemon options":
            return {name.rstrip("=") for name in Options().longOpt}
        case "accept" | "conflict":
            return set(ROWS[subject].choices)
        case "verbs":
            return {*cli.commands, *getattr(cli, "aliases", {})}
        case "global options":
            return _options(cli) | {"-h", "--help"}
        case "send" | "discover" | "id":
            return _options(cli.commands[subject])
        case "peers" | "ctl":
            return set(_group(subject).commands)
        case "completion":
            shell = cli.commands[subject].params[0].type
            assert isinstance(shell, click.Choice)
            return set(shell.choices)
        case "exit codes":
            return {str(kind.exit_code) for kind in KINDS.values()}
        case "error names":
            return set(KINDS)
        case "events":
            return {str(event.__struct_config__.tag) for event in Event.__subclasses__()}
        case "event":
            return _fields(Event) | {"event"}
        case "methods":
            return set(METHODS)
        case "status":
            return _fields(StatusResult)
        case "job":
            return _fields(JobInfo)
    raise AssertionError(subject)


@pytest.mark.parametrize("subject", CONTRACT)
def test_contract(subject: str) -> None:
    """What is promised is there, but for what is known to be missing; what is missing is printed."""
    promised, not_yet = set(CONTRACT[subject].split()), set(NOT_YET.get(subject, "").split())
    assert not_yet <= promised
    missing = promised - _built(subject)
    if missing:
        print(f"{subject}, not built yet: {', '.join(sorted(missing))}")
    assert missing - not_yet == set(), "gone without a word"
    assert not_yet - missing == set(), "built: take it from NOT_YET, and tell the documents"


def test_what_is_missing_belongs_to_a_subject() -> None:
    """NOT_YET has no subject that the contract has not."""
    assert set(NOT_YET) <= set(CONTRACT)
