"""What a person may write as a target, as one table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.client.target import Target, parse_folder, parse_target
from ftx.core.identity import format_id
from ftx.errors import FtxError
from ftx.text import show

ID = bytes(range(32))
ID_TEXT = format_id(ID)
V6 = "fe80::1%eth0"

GOOD = [
    # written, kind, name, host, port, id, into
    ("pi:", "name", "pi", "pi", None, None, ""),
    ("pi:photos/2026", "name", "pi", "pi", None, None, "photos/2026"),
    ("pi:./photos//2026/", "name", "pi", "pi", None, None, "photos/2026"),
    ("pi:.", "name", "pi", "pi", None, None, ""),
    ("host:7000", "name", "host", "host", None, None, "7000"),
    ("192.168.1.7:7000", "ipv4", "", "192.168.1.7", None, None, "7000"),
    ("pi:a:b", "name", "pi", "pi", None, None, "a:b"),
    ("pi:[x]:y", "name", "pi", "pi", None, None, "[x]:y"),
    ("Anna's laptop:", "name", "Anna's laptop", "", None, None, ""),
    ("büro:", "name", "büro", "büro", None, None, ""),
    ("pi.example.org:x", "host", "pi.example.org", "pi.example.org", None, None, "x"),
    ("pi.local.:", "host", "pi.local.", "pi.local.", None, None, ""),
    ("192.168.1.7:", "ipv4", "", "192.168.1.7", None, None, ""),
    ("[::1]:", "ipv6", "", "::1", None, None, ""),
    (f"[{V6}]:DIR", "ipv6", "", V6, None, None, "DIR"),
    (f"{ID_TEXT}:", "identity", "", "", None, ID, ""),
    (f"{ID_TEXT.upper()}:in", "identity", "", "", None, ID, "in"),
    ("pi@192.168.1.7:", "ipv4", "pi", "192.168.1.7", None, None, ""),
    ("pi@pi.example.org:d", "host", "pi", "pi.example.org", None, None, "d"),
    ("pi@gate:d", "name", "pi", "gate", None, None, "d"),
    (f"pi@[{V6}]:d", "ipv6", "pi", V6, None, None, "d"),
    (f"{ID_TEXT}@192.168.1.7:", "ipv4", "", "192.168.1.7", None, ID, ""),
    ("ftx://pi", "url", "pi", "pi", None, None, ""),
    ("ftx://pi/", "url", "pi", "pi", None, None, ""),
    ("ftx://host:7390/dir/sub", "url", "host", "host", 7390, None, "dir/sub"),
    ("ftx://192.168.1.7:1", "url", "", "192.168.1.7", 1, None, ""),
    (f"ftx://[{V6}]:7390/d", "url", "", V6, 7390, None, "d"),
    ("ftx://[fe80::1%25eth0]/d", "url", "", V6, None, None, "d"),
    ("pi@pi:", "name", "pi", "pi", None, None, ""),
    ("ftx://Anna%27s%20laptop@[::1]:99", "url", "Anna's laptop", "::1", 99, None, ""),
    ("ftx://pi@10.0.0.1:99/d%20e", "url", "pi", "10.0.0.1", 99, None, "d e"),
    (f"ftx://{ID_TEXT}@10.0.0.1", "url", "", "10.0.0.1", None, ID, ""),
]


@pytest.mark.parametrize(("text", "kind", "name", "host", "port", "id", "into"), GOOD)
def test_good(text, kind, name, host, port, id, into):
    assert parse_target(text) == Target(text, kind, name, host, port, id, into, pinned="@" in text)


@pytest.mark.parametrize("row", GOOD, ids=[row[0] for row in GOOD])
def test_an_option_takes_every_target_an_argument_takes(row):
    assert parse_target(row[0], option=True) == parse_target(row[0])


@pytest.mark.parametrize("text", ["pi", "192.168.1.7", "[::1]", ID_TEXT, "pi@10.0.0.1", "pi.example.org", "[::1%lo]"])
def test_an_option_needs_no_colon(text):
    bare, full = parse_target(text, option=True), parse_target(text + ":")
    assert (bare.kind, bare.name, bare.host, bare.id, bare.into) == (full.kind, full.name, full.host, full.id, "")


BAD = [
    ("", "local path"),
    ("pi", "'pi' looks like a local name; to send to the machine pi write 'pi:'"),
    ("[::1]", "looks like a local name"),
    ("./a:b", "'./a:b' is a local path"),
    ("dir/", "is a local path"),
    (":", "no machine before the colon"),
    (":dir", "no machine before the colon"),
    ("::1:", "[::1]:"),
    ("fe80::1%eth0:", "[fe80::1%eth0]:"),
    ("fe80::1", "[fe80::1]:"),
    ("[1.2.3.4]:", "no IPv6 address"),
    ("[pi]:", "no IPv6 address"),
    ("[::1:", "no IPv6 address"),
    ("p[i:", "brackets do not match"),
    ("pi:/etc", "write it without the slash: etc"),
    ("pi:/", "always inside the peer's inbox"),
    ("pi:../x", "leaves the inbox"),
    ("pi:a/../../x", "leaves the inbox"),
    ("pi:a\nb", "control character"),
    ("pi:" + "x" * 256, "too long"),
    ("pi:" + "x/" * 65, "too long or too deep"),
    (" pi:", "white space"),
    ("p\ti:", "invisible"),
    ("p\x1b[2Ji:", "brackets"),
    ("p\u202ei:", "invisible"),
    ("p\udcffi:", "invisible"),
    ("pi@:", "needs both"),
    ("@10.0.0.1:", "needs both"),
    ("a@b@c:", "more than one @"),
    (f"pi@{ID_TEXT}:", "is not an address"),
    ("pi@Anna's laptop:", "is not an address"),
    ("http://pi/", "only ftx:// URLs"),
    ("ftx://", "no machine"),
    ("ftx:///dir", "no machine"),
    ("ftx://pi:0/", "not a port"),
    ("ftx://pi:65536/", "not a port"),
    ("ftx://pi:/", "not a port"),
    ("ftx://pi:1x/", "not a port"),
    ("ftx://pi:\uff11/", "not a port"),
    ("ftx://a%3Ab/", "no colon"),
    ("ftx://pi/a?b", "no ?"),
    ("ftx://pi/a#b", "no #"),
    ("ftx://pi/%2e%2e/x", "leaves the inbox"),
    ("ftx://pi//etc", "absolute"),
    ("ftx://[::1", "no IPv6 address"),
]


@pytest.mark.parametrize(("text", "why"), BAD)
def test_bad(text, why):
    with pytest.raises(FtxError) as caught:
        parse_target(text)
    assert caught.value.name == "bad-target"
    assert caught.value.exit_code == 2
    assert why in f"{caught.value.message} {caught.value.hint}"


def test_a_mistyped_identity_is_not_taken_for_a_name():
    wrong = ("b" if ID_TEXT[0] == "a" else "a") + ID_TEXT[1:]
    with pytest.raises(FtxError) as caught:
        parse_target(wrong + ":")
    assert caught.value.name == "bad-identity"


@given(st.text(max_size=60), st.booleans())
def test_any_text_is_a_target_or_a_clean_error(text, option):
    target, error = _parsed(text, option)
    if error is not None:
        assert error.exit_code == 2
        said = error.message + error.hint
        assert show(said, len(said)) == said
    if target is not None:
        assert ".." not in target.into.split("/")
        assert not target.into.startswith("/")
        assert target.name or target.host or target.id


def _parsed(text, option):
    try:
        return parse_target(text, option=option), None
    except FtxError as error:
        return None, error


@given(st.text(max_size=60))
def test_a_folder_in_plain_form_stays_as_it_is(text):
    try:
        folder = parse_folder(text)
    except FtxError:
        return
    assert parse_folder(folder) == folder


def test_a_port_may_come_from_the_option_or_the_url_and_must_agree():
    assert parse_target("pi:").with_port(7390).port == 7390
    assert parse_target("ftx://pi:7390").with_port(7390).port == 7390
    assert parse_target("ftx://pi:7390").with_port(None).port == 7390
    with pytest.raises(FtxError, match="differ"):
        parse_target("ftx://pi:7390").with_port(7391)


def test_the_folder_is_given_once():
    assert parse_target("pi:").with_folder("a/b/").into == "a/b"
    assert parse_target("pi:a").with_folder("").into == "a"
    with pytest.raises(FtxError, match="--into"):
        parse_target("pi:a").with_folder("b")


@given(st.one_of(st.sampled_from([row[0] for row in GOOD]), st.text(max_size=40)), st.sampled_from([None, 7390]))
def test_the_machine_alone_is_read_as_the_same_machine(text, port):
    try:
        target = parse_target(text, option=True)
        target = target.with_port(port)
    except FtxError:
        return
    again = parse_target(target.machine())
    assert (again.name, again.host, again.id, again.port) == (target.name, target.host, target.id, target.port)
    assert again.pinned == target.pinned
    assert again.into == ""


@pytest.mark.parametrize(
    ("text", "port"),
    [("pi:7000", 7000), ("10.0.0.7:1", 1), ("pi:65536", None), ("pi:a/7000", None), ("pi:", None), ("pi:٣", None)],
)
def test_a_folder_that_looks_like_a_port_is_noticed(text, port):
    assert parse_target(text).lone_port == port
    assert parse_target(text).with_port(7390).lone_port is None


def test_a_folder_that_was_named_as_one_is_no_port():
    assert parse_target("pi", option=True).with_folder("7000").lone_port is None
