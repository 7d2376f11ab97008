"""The configuration of the daemon: layers, precedence, and complaints that name what to mend."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import attrs
import pytest

from ftx.daemon.config import Config, Request, load
from ftx.daemon.listen import DEFAULT_ENDPOINTS, parse_endpoint
from ftx.disk import settings
from ftx.disk.account import Account
from ftx.disk.rules import TABLES
from ftx.disk.settings import ROWS, Origin, default_name
from ftx.disk.shares import ShareSetting
from ftx.errors import FtxError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An existing home."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def request_(home: Path, tmp_path: Path) -> Request:
    """A request that asks for nothing, in that home."""
    return Request(home=str(home), uid=os.geteuid(), cwd=str(tmp_path), host="pi.example.org")


def configure(home: Path, text: str) -> Path:
    """Write the home's configuration file."""
    path = home / "config.toml"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


def refused(request: Request) -> FtxError:
    """The complaint about `request`."""
    with pytest.raises(FtxError) as caught:
        load(request)
    assert caught.value.name == "config-invalid"
    return caught.value


def test_defaults(request_: Request, home: Path) -> None:
    """Nothing set: the values of the contract, each known to be a default."""
    config = load(request_)
    assert config == Config(
        places=config.places,
        name="pi",
        listen=DEFAULT_ENDPOINTS,
        inbox=str(home / "inbox"),
        accept="paired",
        approval_timeout=120.0,
        conflict="rename",
        links="skip",
        names="usual",
        discovery_port=7389,
        discovery="everyone",
        no_discovery=False,
        no_probe=False,
        discovery_interface=(),
        discovery_exclude=(),
        discovery_from=(),
        mdns=True,
        control=str(home / "run" / "control.sock"),
        control_packet=str(home / "run" / "control.seq"),
        no_control=False,
        control_group="",
        control_group_pairs=False,
        limit_in="0",
        limit_out="0",
        drain_timeout=30.0,
        uid="",
        gid="",
        sandbox="on",
        sandbox_also=(),
        log_format="text",
        metrics="",
        own_key="own-address",
        origins=dict.fromkeys(ROWS, Origin("default")),
        request=request_,
    )
    assert not (home / "inbox").exists(), "reading the configuration makes nothing"


def test_every_key_in_a_file(request_: Request, home: Path) -> None:
    """All keys of the file at once, with TOML's own types."""
    path = configure(
        home,
        """
        name = "attic"
        listen = ["tcp:7000", 'tcp6:7000:interface=\\:\\:1']
        inbox = "/srv/in"
        accept = "own"
        conflict = "fail"
        links = "keep"
        names = "any"
        discovery_port = 7001
        discovery = "paired"
        no_discovery = true
        no_probe = true
        discovery_interface = ["lo", "eth0"]
        discovery_exclude = ["docker0"]
        discovery_from = ["10.1.0.0/16", "fd00:1::/48"]
        mdns = false
        control = "run/ctl"
        no_control = true
        control_group = "0"
        control_group_pairs = true
        control_packet = "run/packets"
        drain_timeout = 2
        limit_in = "20M"
        limit_out = "08:00 2M, 19:00 0"
        uid = "nobody"
        gid = "0"
        sandbox = "require"
        sandbox_also = ["/srv/archive/", "~/bin"]
        log_format = "json"
        metrics = "tcp:9389"
        approval_timeout = 90
        own_key = "anywhere"
        share = ["photos=~/photos", "music=music"]
        """,
    )
    config = load(request_)
    assert config.name == "attic"
    assert config.listen == (parse_endpoint("tcp:7000"), parse_endpoint("tcp6:7000:interface=\\:\\:1"))
    assert (config.inbox, config.accept, config.conflict) == ("/srv/in", "own", "fail")
    assert (config.links, config.names) == ("keep", "any")
    assert (config.discovery_port, config.no_discovery) == (7001, True)
    assert config.discovery_interface == ("lo", "eth0")
    assert (config.discovery, config.answered, config.discovery_exclude) == ("paired", "off", ("docker0",))
    assert config.discovery_from == ("10.1.0.0/16", "fd00:1::/48")
    assert config.control == os.path.join(request_.cwd, "run/ctl"), "relative to where the command was started"
    assert config.control_packet == os.path.join(request_.cwd, "run/packets")
    assert (config.control_gid, config.control_group_pairs) == (0, True)
    assert (config.no_control, config.drain_timeout, config.own_key) == (True, 2.0, "anywhere")
    assert config.share == (
        ShareSetting("photos", os.path.expanduser("~/photos")),
        ShareSetting("music", os.path.join(request_.cwd, "music")),
    )
    assert config.approval_timeout == 90.0
    assert config.no_probe
    assert (config.account, config.sandbox) == (Account(pwd.getpwnam("nobody").pw_uid, 0), "require")
    assert config.sandbox_also == ("/srv/archive", os.path.expanduser("~/bin"))
    assert set(config.origins.values()) == {Origin("file", str(path))}


def test_the_packet_socket_is_beside_the_other(request_: Request, home: Path) -> None:
    configure(home, 'control = "/srv/ctl.sock"\n')
    assert load(request_).control_packet == "/srv/ctl.seq"


def test_a_group_that_does_not_exist(request_: Request, home: Path) -> None:
    configure(home, 'control_group = "no such group"\n')
    with pytest.raises(FtxError) as caught:
        load(request_)
    assert caught.value.name == "config-invalid"
    assert "there is no group no such group" in caught.value.message


def test_precedence(request_: Request, home: Path, tmp_path: Path) -> None:
    """Option over environment over --config over the home's file over the default; each origin is known."""
    usual = configure(home, 'name = "file"\naccept = "own"\nconflict = "fail"\ndrain_timeout = 1\n')
    named = tmp_path / "other.toml"
    named.write_text('name = "named"\naccept = "paired"\nconflict = "skip"\n', "utf-8")
    asked = attrs.evolve(
        request_,
        config="other.toml",
        environ={"FTX_NAME": "environment", "FTX_ACCEPT": "own"},
        options={"name": "option"},
    )
    config = load(asked)
    assert (config.name, config.origins["name"]) == ("option", Origin("option"))
    assert (config.accept, config.origins["accept"]) == ("own", Origin("environment"))
    assert (config.conflict, config.origins["conflict"]) == ("skip", Origin("file", str(named)))
    assert (config.drain_timeout, config.origins["drain_timeout"]) == (1.0, Origin("file", str(usual)))
    assert config.is_default("inbox")
    assert not config.is_default("name")


def test_environment_names_home_and_file(request_: Request, tmp_path: Path) -> None:
    """FTX_HOME and FTX_CONFIG stand in for the options; the option wins."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two.toml").write_text("no_discovery = true\n", "utf-8")
    environ = {"FTX_HOME": "one", "FTX_CONFIG": "two.toml"}
    config = load(attrs.evolve(request_, home=None, environ=environ))
    assert config.places.home == str(tmp_path / "one")
    assert config.no_discovery
    assert load(attrs.evolve(request_, environ=environ)).places.home == request_.home


def test_environment_forms(request_: Request) -> None:
    """Repeatable settings are separated by spaces, switches are yes or no, empty means unset."""
    environ = {
        "FTX_LISTEN": "tcp:1 tcp6:2",
        "FTX_DISCOVERY_INTERFACE": "lo  eth0",
        "FTX_NO_DISCOVERY": "no",
        "FTX_NO_CONTROL": "1",
        "FTX_NAME": "",
        "FTX_UNKNOWN": "somebody else's",
        "FTX_OWN_KEY": "anywhere",
    }
    config = load(attrs.evolve(request_, environ=environ))
    assert [str(endpoint) for endpoint in config.listen] == ["tcp:1", "tcp6:2"]
    assert config.discovery_interface == ("lo", "eth0")
    assert (config.no_discovery, config.no_control, config.name) == (False, True, "pi")
    assert config.own_key == "own-address", "that one is for the configuration file alone"


def test_an_empty_list_is_no_list(request_: Request, home: Path) -> None:
    """`listen = []` leaves the default."""
    configure(home, "listen = []\n")
    config = load(request_)
    assert config.listen == DEFAULT_ENDPOINTS
    assert config.is_default("listen")


@pytest.mark.case("L173")
@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ('inbxo = "x"', "unknown key inbxo in", "did you mean inbox?"),
        ('drain-timeout = "x"', "unknown key drain-timeout in", "did you mean drain_timeout?"),
        ("[peerz.pi]\nquota = 1", "unknown key peerz in", "did you mean peer?"),
        ('drain_timeout = "soon"', "drain_timeout in", "mend the named key"),
        ("drain_timeout = inf", "is not between 0 and 86400", "mend"),
        ("drain_timeout = nan", "is not between 0 and 86400", "mend"),
        ("drain_timeout = -1", "is not between 0 and 86400", "mend"),
        ("discovery_port = 65536", "65536 is not between 0 and 65535", "mend"),
        ("discovery_port = 1.5", "discovery_port in", "mend"),
        ("discovery_port = true", "discovery_port in", "mend"),
        ('accept = "pared"', '"pared" is not one of the choices', "choose own, paired or ask"),
        ("approval_timeout = 0", "0.0 is not between 1 and 3600", "mend"),
        ('conflict = "merge"', '"merge" is not one of the choices', "choose fail, skip, rename, backup or overwrite"),
        ('own_key = "everywhere"', '"everywhere" is not one of the choices', "choose own-address or anywhere"),
        ("no_discovery = 1", "no_discovery in", "mend"),
        ('listen = "tcp:1"', "listen in", "mend"),
        ("listen = [1]", "listen in", "mend"),
        ('listen = ["7389"]', '"7389" has no type; write tcp:7389', "for example tcp:7389"),
        ('discovery = "none"', '"none" is not one of the choices', "choose everyone, paired or off"),
        ('discovery_from = ["10.1.0.7/16"]', "10.1.0.7/16 is no network", "for example"),
        ('discovery_interface = ["a/b"]', "a/b is not the name of a network interface", "ip link"),
        ('name = "a:b"', "name in", "use letters"),
        ('inbox = ""', "the value is empty", "mend"),
        ('inbox = "a\\u0000b"', "NUL", "mend"),
        ("name = ", "not TOML", "mend"),
        ('name = "a"\nname = "b"', "not TOML", "mend"),
        ("name = " + "[" * 5000, "not TOML", "mend"),
    ],
)
def test_complaints_about_a_file(request_: Request, home: Path, text: str, says: str, hint: str) -> None:
    """Every mistake names the key, the file and what to do."""
    path = configure(home, text + "\n")
    error = refused(request_)
    assert says in error.message
    assert str(path) in error.message
    assert hint in error.hint


@pytest.mark.case("L173")
def test_complaints_name_option_and_variable(request_: Request) -> None:
    """What was set elsewhere is named as it is written there."""
    error = refused(attrs.evolve(request_, options={"discovery_port": "many"}))
    assert error.message == '--discovery-port: "many" is not a number'
    error = refused(attrs.evolve(request_, environ={"FTX_NO_CONTROL": "perhaps"}))
    assert error.message == 'FTX_NO_CONTROL: "perhaps" is neither yes nor no'
    error = refused(attrs.evolve(request_, options={"listen": ["tpc:99"]}))
    assert error.message == '--listen: "tpc" is not a type of endpoint; tcp and tcp6 are'


def test_a_weaker_layer_is_checked_too(request_: Request, home: Path) -> None:
    """A mistake is told before the day when nothing overrides it any more."""
    configure(home, 'accept = "x"\n')
    refused(attrs.evolve(request_, options={"accept": "own"}))


def test_the_named_file_must_exist(request_: Request) -> None:
    """--config of a missing file is a mistake; the usual files may be missing."""
    error = refused(attrs.evolve(request_, config="missing.toml"))
    assert error.message.endswith("missing.toml: there is no such file")


def test_who_may_have_written_the_file(request_: Request, home: Path) -> None:
    """A file that every user may change is refused; so is one that is no file, without waiting for it."""
    path = configure(home, "")
    path.chmod(0o606)
    assert "every user may change it" in refused(request_).message
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in refused(request_).message
    path.unlink()
    path.mkdir()
    assert "not a regular file" in refused(request_).message


def test_the_file_is_bounded_and_text(request_: Request, home: Path) -> None:
    """At most 64 KiB of UTF-8."""
    path = configure(home, "#" * 65535 + "\n")
    load(request_)
    path.write_bytes(b"#" * 65537)
    assert "larger than 64 KiB" in refused(request_).message
    path.write_bytes(b'name = "\xff"\n')
    assert "not UTF-8" in refused(request_).message


@pytest.mark.case("G115")
def test_a_reload_sees_the_file_again(request_: Request, home: Path) -> None:
    """The request is kept in the configuration: loading it again gives what the files say by then."""
    before = load(attrs.evolve(request_, options={"name": "fixed"}))
    configure(home, 'name = "ignored"\naccept = "own"\n')
    after = load(before.request)
    assert (after.name, after.accept) == ("fixed", "own")


@pytest.mark.parametrize(
    ("host", "name"),
    [("pi", "pi"), ("pi.local", "pi"), ("", "ftx"), ("a" * 80, "ftx"), ("bad\x1b[0m", "ftx"), ("-x", "ftx")],
)
def test_default_name(host: str, name: str) -> None:
    """The short host name, where it can be a name."""
    assert default_name(host) == name


def test_the_tables_are_known_by_name_before_they_are_imported() -> None:
    """One that is missing there would be an unknown key."""
    assert tuple(TABLES) == settings._TABLES
