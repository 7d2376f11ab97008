"""The command line as a person or a script meets it: help, usage errors, exit codes, both streams."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from support.ports import free_port

from ftx.client.cli import cli, main
from ftx.client.options import GLOBAL
from ftx.core.blocks import block_digest, file_digest
from ftx.core.identity import format_id, parse_id
from ftx.disk.seen import SeenName, remember
from ftx.text import show

VERBS = {
    *("completion", "config", "ctl", "demo", "discover", "doctor", "get", "hash", "id", "ls", "pair", "peers"),
    *("policy", "receive", "send", "verify"),
}
PEER_ID = format_id(bytes(range(32)))
#: `python -m ftx.client.cli` with SIGINT as a terminal's shell leaves it: a runner in the background may ignore it.
LAUNCH = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from ftx.client.cli import main; sys.exit(main())"
)
EVIL = b"\x1b[2J\x1b]0;x\x07\xe2\x80\xaecod.exe\xff"


class Client:
    """Runs `ftx-client` with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {"FTX_HOME": str(home), "PYTHONWARNINGS": "error"}

    def __call__(self, *args: str | bytes, **more: object) -> subprocess.CompletedProcess[bytes]:
        environment = self.environment | more.pop("environment", {})  # type: ignore[operator]
        settings: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60}
        settings["stdin"] = subprocess.DEVNULL
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [sys.executable, "-m", "ftx.client.cli", *args], check=False, env=environment, **(settings | more)
        )

    def json(self, *args: str) -> list[dict[str, object]]:
        done = self("--json", *args)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Client(home)


@pytest.fixture
def here(
    client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `main` in this process, for what never gets to a reactor: exit code, stdout, stderr."""
    monkeypatch.setenv("FTX_HOME", str(client.home))

    def run(*args: str) -> tuple[int, str, str]:
        code = main(args)
        return code, *capfd.readouterr()

    return run


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb there is, with the words that lead to it."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands(cli))


def test_each_verb_is_called_as_it_is_listed():
    """It is listed where nothing of it is imported, and named where it is written."""
    assert {name: command.name for name, command in cli.commands.items()} == {name: name for name in cli.commands}


# -- help, version, completion ----------------------------------------------------------------------------------


def test_the_verbs_are_those_of_this_version():
    assert set(cli.commands) == VERBS
    assert {"list", "add", "remove", "rename", "show"} == {path[1] for path in ALL if path[0] == "peers" and path[1:]}
    assert {path[1] for path in ALL if path[0] == "ctl" and path[1:]} == {
        "status",
        "jobs",
        "watch",
        "call",
        "limit",
        "pause",
        "resume",
        "offers",
        "approve",
        "deny",
        "cancel",
        "pairing",
        "reload",
        "drain",
        "shutdown",
        "queue",
        "log-level",
    }


@pytest.mark.parametrize("path", [(), *ALL], ids=lambda path: " ".join(path) or "ftx-client")
def test_every_verb_explains_itself(path):
    command = ALL.get(path, cli)
    above = click.Context(cli, info_name="ftx-client") if path else None
    with click.Context(command, info_name="x", parent=above, help_option_names=["-h", "--help"]) as ctx:
        text = command.get_help(ctx)
        own = [param for param in command.params if isinstance(param, click.Option)]
        own = [param for param in own if path == () or param.name not in GLOBAL]
    assert command.help
    assert path == () or command.short_help
    assert not command.hidden
    for param in own:
        assert param.help, param.name
        assert not param.hidden
        assert any(name in text for name in param.opts)
    assert ("Global options, before or after the verb:" in text) == (path == ())
    assert path == () or "Global options, such as --json and --home: ftx-client --help" in text
    assert "--debug" in text or path != ()


def test_help_and_version_are_quick_answers_everywhere(client):
    for args in (["--help"], ["-h"], ["send", "--help"], ["peers", "add", "-h"], ["ctl", "--help"]):
        done = client(*args)
        assert done.returncode == 0
        assert done.stdout.startswith(b"Usage: ftx-client")
        assert done.stderr == b""
    for args in (["--version"], ["-V"], ["send", "-V"], ["peers", "list", "--version"]):
        assert re.fullmatch(rb"ftx-client \d+\.\d+\.\d+\n", client(*args).stdout)


def test_without_a_verb_the_help_is_a_usage_error(client):
    done = client()
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"Usage: ftx-client")


def imported(client: Client, *args: str, environment: dict[str, str] | None = None, code: int = 0) -> set[str]:
    """The modules that a run imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ftx", *args],
        env=client.environment | (environment or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


COMPLETE = {"_FTX_CLIENT_COMPLETE": "bash_complete", "COMP_WORDS": "ftx-client send ", "COMP_CWORD": "2"}


@pytest.mark.parametrize(
    ("args", "environment"),
    [
        (["--help"], {}),
        (["send", "--help"], {}),
        (["send", "--version"], {}),
        (["completion", "bash"], {}),
        (["completion", "zsh"], {}),
        (["completion", "fish"], {}),
        (["peers", "list"], {}),
        ([], COMPLETE),
    ],
    ids=str,
)
def test_quick_answers_import_neither_twisted_nor_openssl(client, args, environment):
    modules = imported(client, *args, environment=environment)
    assert "click" in modules
    heavy = {name.partition(".")[0] for name in modules} & {"twisted", "OpenSSL", "cryptography", "tqdm", "zope"}
    assert heavy == set()


#: What each module brings along that a run of these verbs has no use for: found with `python -X importtime`.
SEARCH = {"ftx.net.discovery", "ftx.core.discovery", "ftx.wire.announce", "ftx.net.dnssd", "ifaddr", "zeroconf"}
RECEIVING = {"ftx.disk.inbox", "ftx.disk.records", "ftx.disk.store", "ftx.core.receiver", "sqlite3"}
OPERATING = {"ftx.disk.rules", "ftx.disk.shares", "ftx.disk.hooks", "ftx.core.policy", "tomllib", "mimetypes"}
SHOWN = {"tqdm", "ftx.client.doctor", "ftx.client.demo", "ftx.client.pairing", "multiprocessing"}


def test_what_a_send_to_an_address_does_not_import(client, tmp_path):
    """Half of the start of a small send are the imports of reactor and OpenSSL; little more may be added."""
    (tmp_path / "one").write_bytes(b"one")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"ftx://127.0.0.1:{nobody.getsockname()[1]}"
        modules = imported(client, "send", str(tmp_path / "one"), url, code=4)
    assert {"ftx.net.sending", "ftx.net.dial"} <= modules
    assert modules & (SEARCH | RECEIVING | OPERATING | SHOWN) == set()


def test_what_a_search_does_not_import(client):
    port = str(free_port(socket.SOCK_DGRAM))
    nobody = {"FTX_DISCOVERY_INTERFACE": "lo", "FTX_DISCOVERY_PORT": port, "FTX_MDNS": "no"}
    modules = imported(client, "discover", "--wait", "0.1", environment=nobody, code=11)
    assert "ftx.net.discovery" in modules
    sending = {"ftx.client.upload", "ftx.net.sending", "ftx.core.sender", "ftx.net.announcing", "ftx.disk.journal"}
    assert modules & (sending | RECEIVING | OPERATING | SHOWN) == set()


def test_what_a_question_to_the_daemon_does_not_import(client):
    modules = imported(client, "ctl", "status", code=12)
    assert "ftx.client.control" in modules
    assert modules & ({"ftx.net.tls", "ftx.wire.messages", "ftx.client.api"} | RECEIVING | OPERATING | SHOWN) == set()


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_imports_nothing_that_the_interpreter_does_not(client, word):
    """But for the modules of ours on the way to it, which begin as all do."""
    bare = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "this"], capture_output=True, text=True, timeout=60, check=True
    )
    begun = {line.rpartition("|")[2].strip() for line in bare.stderr.splitlines()}
    assert imported(client, word) - begun == {"ftx", "ftx.client", "ftx.client.start", "__future__"}


def test_the_version_beside_anything_else_is_left_to_the_parser(client):
    for args in (["--version", "--json"], ["--json", "--version"], ["-V", "nonsense"], ["--version", "--version"]):
        done = client(*args)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == client("--version").stdout
    done = client("--nonsense", "--version")
    assert (done.returncode, done.stdout) == (2, b"")
    assert client("--version", "--nonsense").returncode == 2
    assert b"_ftx_client_completion" in client("-V", environment={"_FTX_CLIENT_COMPLETE": "bash_source"}).stdout


def test_a_version_that_cannot_be_written_is_an_error_and_no_traceback(client):
    command = [sys.executable, "-m", "ftx", "--version"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, timeout=60, check=False)
    assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_one(client, shell):
    done = client("completion", shell)
    assert done.returncode == 0
    assert b"_FTX_CLIENT_COMPLETE" in done.stdout
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.stdout, timeout=60, check=False).returncode == 0


def completions(client: Client, *words: str) -> list[str]:
    done = client(environment=COMPLETE | {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)})
    return [line.partition(",")[2] for line in done.stdout.decode().splitlines() if line]


def test_verbs_options_and_paired_names_are_completed(client):
    client("peers", "add", "pi", PEER_ID, "10.0.0.7")
    assert completions(client, "ftx-client", "se") == ["send"]
    assert "--receipt" in completions(client, "ftx-client", "send", "--rec")
    assert completions(client, "ftx-client", "send", "--to", "p") == ["pi"]
    assert "pi:" in completions(client, "ftx-client", "send", "a", "p")
    assert completions(client, "ftx-client", "peers", "remove", "p") == ["pi"]


def test_names_that_were_seen_are_completed_where_a_target_stands(client):
    """From the cache; nobody is asked. What a shell would take for something else is left out."""
    state = str(client.home / "state")
    odd = ["attic room", "a$(x)", "-x", "a:b", "a\x1b"]
    remember(state, [SeenName(name, "10.0.0.7", time.time()) for name in ("attic", *odd)], time.time())
    assert completions(client, "ftx-client", "send", "a", "a") == ["attic:"]
    assert completions(client, "ftx-client", "ls", "at") == ["attic:"]
    assert completions(client, "ftx-client", "peers", "remove", "at") == []


def test_names_and_files_are_completed_beside_each_other(client, tmp_path, monkeypatch):
    client("peers", "add", "attic", PEER_ID)
    (tmp_path / "atlas").mkdir()
    (tmp_path / ".at").touch()
    monkeypatch.chdir(tmp_path)
    assert completions(client, "ftx-client", "send", "a", "at") == ["attic:", "atlas/"]
    assert completions(client, "ftx-client", "send", "a", "x") == ["x"]  # a file, for the shell to complete
    assert completions(client, "ftx-client", "send", "at") == ["at"]  # the first one is no target


def test_a_name_is_completed_by_bash_itself(client, tmp_path):
    client("peers", "add", "attic", PEER_ID)
    script = client("completion", "bash").stdout.decode()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ftx-client"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ftx.client.cli "$@"\n')
    program.chmod(0o755)
    typed = 'COMP_WORDS=(ftx-client send a at); COMP_CWORD=3; _ftx_client_completion ftx-client; echo "${COMPREPLY[@]}"'
    path = f"{program.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{typed}"],
        env=client.environment | {"PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["attic:"], done.stderr


def test_completion_survives_a_damaged_list_of_peers(client):
    (client.home / "peers.toml").write_text("broken")
    assert completions(client, "ftx-client", "send", "--to", "p") == []


# -- usage ------------------------------------------------------------------------------------------------------


@pytest.mark.case("K170")
@pytest.mark.parametrize(
    ("args", "said", "hint"),
    [
        (["sned"], "no such command 'sned'", "did you mean send?"),
        (["peers", "lst"], "no such command 'lst'", "did you mean list?"),
        (["send", "--confict", "skip", "a", "b:"], "no such option '--confict'", "did you mean --conflict?"),
        (["version"], "no such command 'version'", "ftx-client --version"),
        (["help"], "no such command 'help'", "ftx-client VERB --help"),
        (["--lanes", "3", "send", "a", "b:"], "no such option '--lanes'", "of get and send, and stands behind"),
        (["ls", "--lanes", "3", "b:"], "no such option '--lanes'", "it is an option of get and send"),
        (["send", "a", "pi"], "'pi' looks like a local name", "NAME:"),
        (["send", "pi:"], "there is nothing to send", ""),
        (["send"], "missing argument", "ftx-client send FILE NAME:"),
        (["send", "--to", "pi"], "there is nothing to send", "before the target"),
        (["send", "a", "pi:", "attic:"], "pi: is a target among the sources", "--to pi --to attic"),
        (["send", "a", "pi:", "--to", "attic"], "pi: is a target among the sources", "--to attic --to pi"),
        (["send", "pi:notes", "."], "send does not fetch", "shares: ftx-client get pi:notes"),
        (["send", "ftx://pi/notes", "x"], "send does not fetch", "shares: ftx-client get ftx://pi/notes"),
        (["fetch", "pi:notes", "."], "no such command 'fetch'", "it is called get"),
        (["get", "notes", "."], "notes names no machine", "ends with a colon"),
        (["get", "."], ". names no machine", "ftx-client get NAME:SHARE"),
        (["get", "pi:", "."], "pi: names no share", "ftx-client ls pi:"),
        (["get", "pi:a/x", "pi:b/x"], "two sources are called x", "folders of their own"),
        (["get", "pi:a/x", "loft:b/x"], "two sources are called x", "folders of their own"),
        (["get", "-o", "file", "pi:a"], "-o takes nothing but -", "redirect"),
        (["get", "-o", "-", "pi:a", "pi:b"], "-o - is for one file", "into a folder"),
        (["get", "-o", "-", "--json", "pi:a"], "both want standard output", ""),
        (["get", "pi:a", "--exclude", "#"], "matches nothing", "backslash"),
        (["send", "a", "pi:", "--exclude"], "'--exclude' requires an argument", "see ftx-client send --help"),
        (["send", "pi:", "/"], "the target stands last", "ftx-client send / pi:"),
        (["status"], "no such command 'status'", "ftx-client ctl status"),
        (["rsync", "a", "pi:"], "no such command 'rsync'", "it is called send"),
        (["scp", "a", "pi:"], "no such command 'scp'", "it is called send"),
        (["peers", "pair"], "no such command 'pair'", "ftx-client peers --help"),
        (["send", "-", "pi:"], "needs a name there", "./-"),
        (["put", "-", "--to", "pi"], "needs a name there", "./-"),
        (["send", "", "pi:"], "a source is empty", ""),
        (["send", "a", "pi:x", "--into", "y"], "--into", "see ftx-client send --help"),
        (["send", "a", "pi:/etc"], "absolute", "etc"),
        (["send", "-p", "0", "a", "pi:"], "1 to 65535", ""),
        (["push", "-p", "7390", "a", "ftx://pi:7391"], "differ", ""),
        (["send", "--conflict", "replace", "a", "pi:"], "'replace' is not one of", ""),
        (["send", "--receipt", "r", "a", "--to", "b", "--to", "c"], "--receipt is for one target", ""),
        (["--timeout", "0", "id"], "0 is not above 0", ""),
        (["id", "--timeout", "nan"], "not above 0", ""),
        (["id", "--retries", "-1"], "not a number from 0", ""),
        (["id", "--discovery-port", "65536"], "1 to 65535", ""),
        (["peers", "add", "pi", "short"], "56 letters and digits", "ftx-client id"),
        (["peers", "add", "p:i", PEER_ID], "cannot contain", ""),
        (["peers", "add", "10.0.0.7", PEER_ID], "cannot be an address", "peers add NAME ID 10.0.0.7"),
        (["peers", "rename", "pi", "fe80::1"], "cannot be an address", ""),
        (["peers", "remove", "nobody"], "no peer is called nobody", ""),
        (["completion", "tcsh"], "'tcsh' is not one of", ""),
        (["hash"], "missing argument", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_is_exit_code_2_a_sentence_and_a_hint(here, args, said, hint):
    code, out, err = here(*args)
    first, second = err.splitlines()
    assert code == 2
    assert out == ""
    assert first.startswith("ftx-client: ")
    assert said in first
    assert second.startswith("hint: ")
    assert hint in second


@pytest.mark.parametrize(
    "args",
    [
        ["mirror"],
    ],
    ids=" ".join,
)
def test_what_is_not_built_is_not_accepted(here, args):
    code, out, err = here(*args)
    assert code == 2
    assert out == ""
    assert "no such" in err


@pytest.mark.case("K162")
def test_what_was_typed_is_cleaned_before_it_is_shown(client):
    done = client(b"send", b"a", EVIL)
    assert done.returncode == 2
    text = done.stderr.decode()
    assert all(show(line, len(line) + 1) == line for line in text.splitlines())


def test_a_bad_configuration_is_named(client):
    (client.home / "config.toml").write_text("naem = 'x'\n")
    done = client("id")
    assert done.returncode == 2
    assert b"naem" in done.stderr
    assert b"did you mean name?" in done.stderr


# -- id and peers -----------------------------------------------------------------------------------------------


def test_id_is_the_same_every_time_in_both_forms(client):
    first = client.json("id")[0]
    assert sorted(first) == ["id", "name", "words"]
    text = client("id").stdout.decode().splitlines()
    assert text == [f"id:    {first['id']}", f"name:  {first['name']}", f"words: {first['words']}"]
    assert parse_id(str(first["id"]))


@pytest.mark.case("K169")
def test_a_new_identity_is_another_one(client):
    before = client.json("id")[0]["id"]
    for words in ([], ["--no-input"]):  # without a terminal nobody can be asked
        refused = client("id", "--renew", *words)
        assert refused.returncode == 2
        assert b"hint: say it with --yes" in refused.stderr
    assert client.json("id")[0]["id"] == before
    after = client.json("id", "--renew", "--yes")[0]["id"]
    assert before != after == client.json("id")[0]["id"]


def test_the_name_is_the_configured_one(client):
    (client.home / "config.toml").write_text("name = 'office'\n")
    assert client.json("id")[0]["name"] == "office"
    assert json.loads(client("id", "--json", environment={"FTX_NAME": "desk"}).stdout)["name"] == "desk"


def test_peers_come_change_and_go(client):
    assert client.json("peers") == []
    added = client.json("peers", "add", "pi", PEER_ID.upper(), "10.0.0.7", "pi.local")[0]
    assert added["name"] == "pi"
    assert added["id"] == PEER_ID
    assert added["addresses"] == ["10.0.0.7", "pi.local"]
    assert added["seen"] is None
    assert client.json("peers") == client.json("peers", "list") == client.json("peers", "show", "pi") == [added]
    table = client("peers", "list").stdout.decode().splitlines()
    assert table[0].split() == ["NAME", "ID", "ADDRESSES", "SEEN", "(UTC)"]
    assert table[1].split()[:2] == ["pi", PEER_ID[:15] + "…"]
    moved = client("peers", "add", "pie", PEER_ID).stdout.decode()
    assert moved.startswith(f"paired pie (until now pi), id {PEER_ID}")
    assert client.json("peers", "rename", "pie", "raspberry")[0]["name"] == "raspberry"
    assert b"did you mean raspberry?" in client("peers", "show", "rasberry").stderr
    assert client("peers", "remove", "raspberry").stdout == b"removed raspberry\n"
    assert client.json("peers") == []


def test_a_name_that_is_taken_is_refused(client):
    client("peers", "add", "pi", PEER_ID)
    done = client("peers", "add", "pi", format_id(bytes(32)))
    assert done.returncode == 2
    assert b"another peer is called pi" in done.stderr


def test_this_machine_is_no_peer_of_itself(client):
    done = client("peers", "add", "me", str(client.json("id")[0]["id"]))
    assert done.returncode == 2
    assert b"this machine itself" in done.stderr


def test_a_damaged_list_of_peers_is_an_error_and_stays_as_it_is(client):
    (client.home / "peers.toml").write_text("broken")
    (client.home / "peers.toml").chmod(0o600)
    done = client("peers", "add", "pi", PEER_ID)
    assert done.returncode == 3
    assert (client.home / "peers.toml").read_text() == "broken"


def answer(client: Client, reply: bytes | signal.Signals, *args: str) -> tuple[int, str]:
    """The exit code of a run on a terminal where somebody replies when asked, and what stood on the screen."""
    terminal, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *args],
        env=client.environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    answered = False
    while True:
        if not select.select([terminal], [], [], 1.0)[0]:
            state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
            if answered and isinstance(reply, signal.Signals) and state == "S":
                # Between its last look for signals and read(2), input() does not notice one: nobody is that quick. One
                # that runs, or would if it were let, has noticed, and a second signal would cut its end short.
                child.send_signal(reply)
            continue
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # everybody on the other side has gone
            break
        shown += chunk
        if b"[y/N]" in shown and not answered:
            answered = True
            if isinstance(reply, signal.Signals):
                child.send_signal(reply)
            else:
                os.write(terminal, reply)
    os.close(terminal)
    return child.wait(60), shown.decode()


@pytest.mark.case("K169")
@pytest.mark.parametrize(
    ("args", "reply", "code", "left"),
    [
        ([], b"n\n", 0, 1),
        ([], b"\n", 0, 1),
        ([], b"\x04", 130, 1),
        ([], b"y\n", 0, 0),
        ([], signal.SIGINT, 130, 1),
        (["--yes"], b"", 0, 0),
        (["--no-input"], b"", 0, 0),
    ],
    ids=["no", "nothing", "end of file", "yes", "ctrl-c", "--yes", "--no-input"],
)
def test_removing_asks_where_somebody_can_answer(client, args, reply, code, left):
    client("peers", "add", "pi", PEER_ID)
    returned, shown = answer(client, reply, "peers", "remove", "pi", *args)
    assert returned == code, shown
    assert ("no longer?" in shown) is (reply != b"")
    assert "Traceback" not in shown
    assert len(client.json("peers")) == left


# -- hash -------------------------------------------------------------------------------------------------------


def expected(content: bytes) -> str:
    size = 1 << 20
    blocks = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
    return file_digest(len(content), [block_digest([block]) for block in blocks]).hex()


@pytest.mark.parametrize("length", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_hash_is_the_digest_of_the_protocol(client, tmp_path, length):
    content = bytes(range(256)) * (length // 256 + 1)
    content = content[:length]
    file = tmp_path / "file"
    file.write_bytes(content)
    assert client("hash", str(file)).stdout.decode() == f"{expected(content)}  {file}\n"
    assert client.json("hash", str(file)) == [{"path": str(file), "digest": expected(content), "size": length}]


def test_files_that_cannot_be_hashed_do_not_stop_the_others(client, tmp_path):
    good, pipe = tmp_path / "good", tmp_path / "pipe"
    good.write_bytes(b"x")
    os.mkfifo(pipe)
    done = client("hash", str(tmp_path / "missing"), str(tmp_path), str(pipe), str(good))
    assert done.returncode == 9
    assert done.stdout.decode() == f"{expected(b'x')}  {good}\n"
    assert done.stderr.count(b"ftx-client: cannot hash") == 3
    assert client("hash", str(tmp_path / "missing")).returncode == 3


@pytest.mark.case("C54", "K162")
def test_a_hostile_file_name_is_shown_cleaned_and_exact_in_json(client, tmp_path):
    file = os.fsencode(tmp_path) + b"/" + EVIL
    with open(file, "wb"):
        pass
    for args in (["hash"], ["hash", "--color", "always"], ["hash", "-v"]):
        done = client(*args, file)
        line = done.stdout.decode()
        assert done.returncode == 0
        assert show(line[:-1], 10_000) == line[:-1]
    record = json.loads(client("hash", "--json", file).stdout)
    assert client("hash", "--json", file).stdout.isascii()
    assert "path_b64" in record
    assert client("hash", file + b"missing").returncode == 3


@pytest.mark.case("K163")
@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
@pytest.mark.parametrize("encoding", ["", "ascii"])
def test_any_locale_will_do(client, tmp_path, locale, encoding):
    file = tmp_path / "日本語 ü"
    file.write_bytes(b"x")
    environment = {"LC_ALL": locale, "PYTHONIOENCODING": encoding}
    for mode in ({}, {"PYTHONUTF8": "0"}):  # with the second, Python has no code for most letters
        done = client("hash", os.fsencode(file), environment=environment | mode)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(expected(b"x").encode())
    assert client("peers", "add", "büro", PEER_ID, environment=environment).returncode == 0
    assert client("peers", environment=environment).returncode == 0
    assert client("send", os.fsencode(file), "büro", environment=environment).returncode == 2


@pytest.mark.case("G116")
def test_a_reader_that_goes_away_is_no_error(client, tmp_path):
    files = []
    for number in range(200):
        files.append(tmp_path / f"{number}")
        files[-1].write_bytes(b"x")
    command = f'{sys.executable} -m ftx.client.cli "$@" | head -c 1; exit ${{PIPESTATUS[0]}}'
    for args in (["hash", *map(str, files)], ["--json", "hash", *map(str, files)], ["--help"], ["completion", "bash"]):
        done = subprocess.run(
            ["bash", "-c", command, "x", *args],
            env=client.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b""), args
        assert len(done.stdout) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_an_error(client):
    with open("/dev/full", "wb") as full:
        done = client("id", stdout=full)
    assert done.returncode == 3
    assert b"standard output cannot be written: no space left on device" in done.stderr


@pytest.mark.case("G116")
def test_closed_streams_end_in_no_traceback(client):
    script = f"{sys.executable} -m ftx.client.cli id >&-; echo $?"
    done = subprocess.run(["bash", "-c", script], env=client.environment, capture_output=True, timeout=60, check=False)
    assert done.stdout == b"3\n"
    assert b"Traceback" not in done.stderr
    script = f"{sys.executable} -m ftx.client.cli hash /missing 2>&-; echo $?"
    done = subprocess.run(["bash", "-c", script], env=client.environment, capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (b"3\n", b"")


# -- streams ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "environment", "coloured"),
    [
        ([], {}, False),
        (["--color", "always"], {}, True),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color", "never"], {}, False),
    ],
)
def test_colour_is_for_terminals_and_those_who_insist(client, args, environment, coloured):
    done = client("hash", "/missing", *args, environment=environment)
    assert (b"\x1b[" in done.stderr) is coloured


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_on_a_terminal(client, environment, coloured):
    client.environment = client.environment | {"TERM": "xterm", "NO_COLOR": ""} | environment
    code, shown = answer(client, b"", "hash", "/missing")
    assert code == 3
    assert ("\x1b[" in shown) is coloured


def test_the_same_options_count_before_and_after_the_verb(client):
    assert client("--json", "id").stdout == client("id", "--json").stdout
    other = client.home.parent / "other"
    other.mkdir(mode=0o700)
    assert client("--home", str(other), "id").stdout == client("id", "--home", str(other)).stdout
    assert client("--home", str(client.home), "id", "--home", str(other)).stdout != client("id").stdout
    assert client("peers", "--json", "add", "pi", PEER_ID).stdout.startswith(b"{")


def test_a_running_hash_is_interrupted_without_a_traceback(client, tmp_path):
    file = tmp_path / "sparse"
    with open(file, "wb") as sparse:
        sparse.truncate(1 << 42)
    child = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, "hash", "pyproject.toml", str(file)],
        env=client.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    assert child.stdout.readline().endswith(b"pyproject.toml\n")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.split() == [b"ftx-client:", b"interrupted"]
    assert client("hash", "--timeout", "0.1", str(file)).returncode == 10


def test_ctl_without_a_daemon_is_exit_code_12_and_names_the_socket(client):
    done = client("ctl", "status")
    assert done.returncode == 12
    assert str(client.home / "run" / "control.sock").encode() in done.stderr
    elsewhere = client("ctl", "status", environment={"FTX_CONTROL": "/nowhere/else.sock"})
    assert elsewhere.returncode == 12
    assert b"/nowhere/else.sock" in elsewhere.stderr
