"""Which names from the wire are accepted, and which free name comes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx import limits
from ftx.disk.names import NameRules, all_plain, check_component, check_path, free_names
from ftx.errors import FtxError

USUAL = NameRules()

ACCEPTED = [
    b"a",
    b"~",
    b"-rf",
    b"a b.txt",
    b"C:\\x",
    b"back\\slash",
    b"a.",
    b"...",
    "Übung.txt".encode(),
    "日本語".encode(),
    "e\u0301".encode(),
    b"latin1-\xe9",
    b"\xff\xfe",
    "bidi \u202e txt.exe".encode(),
    "slash \u2215 alike".encode(),
    b"x" * 255,
]
REFUSED = [
    b"",
    b".",
    b"..",
    b"/",
    b"a/b",
    b"/a",
    b"a/",
    b"../a",
    b"nul\x00",
    b"tab\t",
    b"line\n",
    b"\x1b[2J",
    b"del\x7f",
    "c1 \x9b31m".encode(),
    b"x" * 256,
    b".ftx",
    b".FTX",
    b".Ftx",
]


@pytest.mark.case("C50", "C52")
@pytest.mark.parametrize("name", ACCEPTED, ids=ascii)
def test_accepted_components(name: bytes) -> None:
    """What merely looks odd is a name like any other."""
    check_component(name, USUAL)


@pytest.mark.case("C49", "C51")
@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_refused_components(name: bytes) -> None:
    """What is no single name, or would act on a terminal, is refused with one error."""
    with pytest.raises(FtxError) as caught:
        check_component(name, USUAL)
    assert caught.value.name == "bad-name"
    assert caught.value.message.isprintable()


@pytest.mark.case("C51")
def test_operator_may_accept_control_characters_but_never_separators() -> None:
    """The wider rule has no effect on what makes a path of a name."""
    check_component(b"tab\t", NameRules(control=True))
    for name in (b"nul\x00", b"a/b", b"..", b".ftx"):
        with pytest.raises(FtxError):
            check_component(name, NameRules(control=True))


@pytest.mark.case("C63", "C64")
def test_leading_dot_only_below_the_top() -> None:
    """A dot file at the top of the inbox needs the operator's consent; .ftx is refused everywhere."""
    check_path((b"home", b".bashrc"), USUAL)
    with pytest.raises(FtxError):
        check_path((b".bashrc",), USUAL)
    check_path((b".bashrc",), NameRules(dot_at_top=True))
    for path in ((b".ftx",), (b"a", b".ftx", b"records.db"), (b".fTx", b"x")):
        with pytest.raises(FtxError):
            check_path(path, NameRules(dot_at_top=True))


@pytest.mark.case("C53")
def test_path_limits() -> None:
    """64 components and 4,096 bytes are the most; nothing at all is too little."""
    check_path((b"d",) * limits.DEPTH, USUAL)
    check_path((b"x" * 255,) * 16, USUAL)
    for path in ((), (b"d",) * (limits.DEPTH + 1), (b"x" * 255,) * 16 + (b"y",)):
        with pytest.raises(FtxError) as caught:
            check_path(path, USUAL)
        assert caught.value.name == "bad-name"


@pytest.mark.parametrize(
    ("name", "first"),
    [
        (b"a.txt", b"a (1).txt"),
        (b"a.tar.gz", b"a.tar (1).gz"),
        (b"a", b"a (1)"),
        (b".bashrc", b".bashrc (1)"),
        (b".a.txt", b".a (1).txt"),
        (b"..x", b"..x (1)"),
        (b"a.", b"a (1)."),
        (b"a." + b"e" * 253, b"a." + b"e" * 249 + b" (1)"),
        (b"s" * 251 + b".txt", b"s" * 247 + b" (1).txt"),
        (b"s" * 245 + "é".encode() * 5, b"s" * 245 + "é".encode() * 3 + b" (1)"),
        (b"s" * 246 + "é".encode() * 4, b"s" * 246 + "é".encode() * 2 + b" (1)"),
    ],
    ids=ascii,
)
def test_first_free_name(name: bytes, first: bytes) -> None:
    """The number goes before the extension, and a long stem makes room without breaking a character."""
    assert next(free_names(name)) == (1, first)


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_free_names_always_fit(name: bytes) -> None:
    """Every one of the 999 is a valid length, they differ, and the last one is number 999."""
    names = list(free_names(name))
    assert len(names) == limits.RENAME_TRIES == names[-1][0]
    assert all(0 < len(other) <= limits.NAME and b"/" not in other for _, other in names)
    assert len({other for _, other in names}) == len(names)


@given(st.text(min_size=1, max_size=255))
def test_free_names_of_text_stay_text(text: str) -> None:
    """Cutting never makes bytes that are not UTF-8 out of a name that was."""
    name = text.encode("utf-8", "ignore")[:255].decode("utf-8", "ignore").encode()
    if name:
        next(free_names(name))[1].decode("utf-8")


@given(st.lists(st.binary(max_size=6) | st.sampled_from([*ACCEPTED, *REFUSED, b".x", b"a.b"]), min_size=1, max_size=4))
def test_what_is_plain_together_is_accepted_one_by_one(names: list[bytes]) -> None:
    """The quick look at many lets nothing pass that the look at each would refuse, at the top or below."""
    if all_plain(names):
        for name in names:
            check_component(name, USUAL, top=True)


def test_usual_names_are_plain() -> None:
    """So that the quick look is the usual one; a dot in front, or what may begin a control character, is not."""
    assert all_plain([name for name in ACCEPTED if b"\xc2" not in name and not name.startswith(b".")])
    assert not any(all_plain([b"a", name]) for name in REFUSED)
    assert not all_plain([b"a", b".hidden"])
