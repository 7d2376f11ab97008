"""Rights and rules in a configuration file: what is understood, and the sentence for everything else."""

from __future__ import annotations

import os
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest

from ftx import limits
from ftx.core.identity import format_id
from ftx.core.rights import Hours, Rights
from ftx.disk.configfile import signature
from ftx.disk.places import places
from ftx.disk.rules import TABLES, rights_table, rules_table
from ftx.disk.settings import gather
from ftx.errors import FtxError

ID = bytes(range(32))
WRITTEN = format_id(ID)


def test_rights() -> None:
    """Everything that can be said of a peer."""
    table = tomllib.loads(
        f"""
        [peer.pi]
        id = "{WRITTEN}"
        push = true
        folder = "from/{{peer}}"
        shares = ["photos"]
        conflict = "skip"
        bytes_per_day = "1.5G"
        files_per_day = 100
        file_size = 4096
        hours = ["08:00-12:00", "22:00-06:00"]
        """
    )
    assert rights_table(table["peer"], "c.toml") == {
        ID: Rights(
            folder="from/{peer}",
            shares=frozenset({"photos"}),
            conflict="skip",
            bytes_per_day=1_500_000_000,
            files_per_day=100,
            file_size=4096,
            hours=(Hours(480, 720), Hours(1320, 360)),
        )
    }


def test_rules() -> None:
    """Everything that a rule can say; one value may stand without a list."""
    table = tomllib.loads(
        """
        [[rule]]
        title = "no programs"
        name = ["*.exe", "*.msi"]
        type = "application/x-msdownload"
        larger = "1Ki"
        smaller = "4GiB"
        action = "refuse"
        reason = "mail them"
        [[rule]]
        peer = ["Pi", "@own"]
        address = ["192.0.2.7/24", "2001:db8::1"]
        hours = "22:00-06:00"
        action = "accept"
        folder = "night/{date}"
        conflict = "skip"
        """
    )
    first, second = rules_table(table["rule"], "c.toml")
    assert (first.title, first.names, first.larger, first.smaller) == ("no programs", ("*.exe", "*.msi"), 1024, 4 << 30)
    assert (second.title, second.peers, second.folder, second.conflict) == (
        "rule 2",
        ("pi", "@own"),
        "night/{date}",
        "skip",
    )
    assert second.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::1/128"))


def _wrong(text: str) -> FtxError:
    table = tomllib.loads(text)
    key = "peer" if "peer" in table else "rule"
    with pytest.raises(FtxError) as caught:
        TABLES[key](table[key], "c.toml")
    assert caught.value.name == "config-invalid"
    return caught.value


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("pusch = true", "pusch of [peer.pi] in c.toml: there is no such key"),
        ("push = 1", "push of [peer.pi] in c.toml: expected"),
        ("push = 'yes'", "push of [peer.pi]"),
        ("folder = '/etc'", "not a folder inside the inbox"),
        ("folder = 'a/../b'", "not a folder inside the inbox"),
        ("folder = '{home}'", "a placeholder that does not exist"),
        ("conflict = 'replace'", "not one of fail, skip, rename, backup, overwrite"),
        ("bytes_per_day = 'much'", "is not a size"),
        ("bytes_per_day = -1", "not a number of bytes"),
        ("files_per_day = -1", "not a number of files"),
        ("hours = 'always'", "not of the form"),
        ("shares = 'photos'", "shares of [peer.pi]"),
        ("id = 'abc'", "id of [peer.pi]"),
        ("\"\\u001b[2J\" = 1", "\\x1b[2J of [peer.pi]"),
    ],
)
def test_wrong_rights(line: str, says: str) -> None:
    """Each complaint names the key, the table and the file, cleaned for display."""
    text = f"[peer.pi]\n{line}\n" + ("" if line.startswith("id") else f'id = "{WRITTEN}"\n')
    assert says in _wrong(text).message


def test_rights_without_an_identity() -> None:
    """A name is not enough: it can be given to another key."""
    assert "the id is missing" in _wrong("[peer.pi]\npush = true\n").message
    assert "the same id" in _wrong(f'[peer.a]\nid = "{WRITTEN}"\n[peer.b]\nid = "{WRITTEN}"\n').message
    assert "has to be tables" in _wrong("peer = 1").message
    assert "has to be a table" in _wrong("peer.pi = 1").message
    assert "cannot contain" in _wrong(f'[peer."a:b"]\nid = "{WRITTEN}"\n').message


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("title = 'x'", "x in c.toml: the action is missing"),
        ("action = 'allow'", "action of rule 1 in c.toml: \"allow\" is not one of accept, ask, refuse"),
        ("action = 'refuse'\nnmae = '*'", "nmae of rule 1 in c.toml: there is no such key"),
        ("action = 'refuse'\nname = ''", "a pattern is empty"),
        ("action = 'refuse'\npeer = '@all'", "not one of @own"),
        ("action = 'refuse'\npeer = 'a/b'", "cannot contain"),
        ("action = 'refuse'\naddress = 'pi'", "address of rule 1"),
        ("action = 'refuse'\nlarger = '4 elephants'", "larger of rule 1"),
        ("action = 'refuse'\nfolder = 'x'", "goes nowhere"),
        ("action = 'accept'\nname = '*.jpg'\nfolder = 'x'", "whole offers"),
        ("action = 'accept'\nlarger = 1\nconflict = 'skip'", "whole offers"),
        ("action = 'accept'\nconflict = 'replace'", "not one of"),
        ("action = 1", "action of rule 1"),
    ],
)
def test_wrong_rules(rule: str, says: str) -> None:
    """A rule that is not understood to its last word is an error: half of it would decide otherwise."""
    assert says in _wrong(f"[[rule]]\n{rule}\n").message


def test_bounds() -> None:
    """Neither rules nor the values of one condition are without number."""
    many = "[[rule]]\naction = 'refuse'\n" * (limits.RULES + 1)
    assert "more than" in _wrong(many).message
    names = ", ".join(["'a'"] * (limits.CONFIG_ITEMS + 1))
    assert "more than" in _wrong(f"[[rule]]\naction = 'refuse'\nname = [{names}]").message
    assert "has to be a list" in _wrong("rule = 1").message
    assert "has to be a table" in _wrong("rule = [1]").message


def test_tables_in_the_layers_of_settings(tmp_path: Path) -> None:
    """The tables stand beside the settings of a file; the strongest file that has one counts for it."""
    where = places(str(tmp_path), {}, os.geteuid(), "/")
    before = signature(where.config_files)
    (tmp_path / "config.toml").write_text("name = 'attic'\n[[rule]]\naction = 'refuse'\n")
    assert signature(where.config_files) != before
    found = gather({}, {}, where, "/")
    assert (found["name"].value, [rule.action for rule in found["rule"].value]) == ("attic", ["refuse"])
    stronger = tmp_path / "other.toml"
    stronger.write_text(f"[[rule]]\naction = 'ask'\n[peer.pi]\nid = '{WRITTEN}'\n")
    found = gather({}, {}, where, "/", str(stronger))
    assert [rule.action for rule in found["rule"].value] == ["ask"]
    assert found["peer"].value == {ID: Rights()}
    (tmp_path / "config.toml").write_text("[[rules]]\naction = 'refuse'\n")
    with pytest.raises(FtxError) as caught:
        gather({}, {}, where, "/")
    assert caught.value.hint == "did you mean rule?"
