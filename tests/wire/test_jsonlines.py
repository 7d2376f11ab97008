"""Lines of the control socket: whole, in pieces, too long, and everything that is not a request."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx import limits
from ftx.errors import FtxError
from ftx.wire.jsonlines import (
    LineSplitter,
    Request,
    decode_reply,
    decode_request,
    encode_error,
    encode_request,
    encode_result,
)


def lines_of(splitter: LineSplitter) -> list[bytes]:
    found = []
    while (line := splitter.next_line()) is not None:
        found.append(line)
    return found


def attempt(action: Callable[[], Request | None]) -> Request | FtxError | None:
    try:
        return action()
    except FtxError as error:
        return error


def refusal(line: bytes) -> FtxError:
    with pytest.raises(FtxError) as caught:
        decode_request(line)
    return caught.value


# -- lines -------------------------------------------------------------------------------------------------


def test_whole_lines() -> None:
    splitter = LineSplitter()
    splitter.feed(b"one\ntwo\r\n\nthr")
    assert lines_of(splitter) == [b"one", b"two", b""]
    assert splitter.partial
    splitter.feed(b"ee\n")
    assert lines_of(splitter) == [b"three"]
    assert not splitter.partial
    assert splitter.last_line() is None


def test_last_line_may_lack_its_end() -> None:
    splitter = LineSplitter()
    splitter.feed(b"one\nstatus")
    assert lines_of(splitter) == [b"one"]
    assert splitter.last_line() == b"status"
    assert splitter.last_line() is None


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line and line[-1:] != b"\r")), st.data())
def test_any_split_gives_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    """Byte by byte, at once, or anything in between."""
    raw = b"".join(line + b"\n" for line in lines)
    splitter, found = LineSplitter(), []
    while raw:
        count = data.draw(st.integers(1, len(raw)))
        splitter.feed(raw[:count])
        raw = raw[count:]
        found += lines_of(splitter)
    assert found == lines
    assert not splitter.partial


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_exactly_as_long_as_allowed(end: bytes) -> None:
    splitter = LineSplitter(8)
    for byte in b"x" * 8 + end:
        splitter.feed(bytes([byte]))
        line = splitter.next_line()
    assert line == b"x" * 8


@pytest.mark.parametrize("raw", [b"x" * 9 + b"\n", b"x" * 10, b"x" * 100])
def test_a_line_too_long_is_refused_with_or_without_its_end(raw: bytes) -> None:
    splitter = LineSplitter(8)
    splitter.feed(raw)
    with pytest.raises(FtxError) as caught:
        splitter.next_line()
    assert caught.value.name == "bad-request"


def test_a_last_line_too_long_is_refused() -> None:
    splitter = LineSplitter(8)
    splitter.feed(b"x" * 9)
    assert splitter.next_line() is None  # it might have been 8 bytes and a \r
    with pytest.raises(FtxError):
        splitter.last_line()


def test_J154_an_endless_line_is_refused_before_it_is_held() -> None:
    splitter = LineSplitter()
    for _ in range(limits.CONTROL_LINE // 4096):
        splitter.feed(b"x" * 4096)
        assert splitter.next_line() is None
    splitter.feed(b"x" * 4096)
    with pytest.raises(FtxError):
        splitter.next_line()


# -- requests ----------------------------------------------------------------------------------------------


def test_a_request() -> None:
    line = b'{"jsonrpc":"2.0","id":7,"method":"jobs.show","params":{"job":"x"}}'
    assert decode_request(line) == Request("jobs.show", b'{"job":"x"}', 7)


@pytest.mark.parametrize("shown", ["7", '"seven"', "null", "-9223372036854775807", '"' + "x" * 64 + '"'])
def test_ids_that_are_answered(shown: str) -> None:
    request = decode_request(b'{"id":%b,"method":"a"}' % shown.encode())
    assert request is not None
    assert request.wants_reply
    assert json.dumps(request.id) == shown


def test_no_id_is_a_notification() -> None:
    assert decode_request(b'{"method":"a"}') == Request("a", b"{}", None, wants_reply=False)


@pytest.mark.parametrize("word", [b"status", b"  status \r", b"jobs.list", b"a", b"a" * 64])
def test_a_bare_word_is_a_request_with_a_null_id(word: bytes) -> None:
    assert decode_request(word) == Request(word.strip().decode(), b"{}", None, wants_reply=True)


@pytest.mark.parametrize("line", [b"", b" ", b"\r", b"\t "])
def test_an_empty_line_is_nothing(line: bytes) -> None:
    assert decode_request(line) is None


@pytest.mark.parametrize("params", [b"null", b"{}", b"{ }"])
def test_no_parameters(params: bytes) -> None:
    request = decode_request(b'{"method":"a","params":%b}' % params)
    assert request is not None
    assert msgspec.json.decode(request.params) == {}


REFUSED = {
    "two words": b"status now",
    "a long word": b"a" * 65,
    "upper case": b"Status",
    "HTTP": b"GET / HTTP/1.1",
    "half an object": b'{"method":"a"',
    "two objects": b'{"method":"a"}{"method":"b"}',
    "a number": b"7",
    "a string": b'"status"',
    "no method": b'{"id":1}',
    "method is no string": b'{"method":1}',
    "misspelt": b'{"method":"a","parms":{}}',
    "another JSON-RPC": b'{"jsonrpc":"1.0","method":"a"}',
    "id with a fraction": b'{"method":"a","id":1.5}',
    "id is a truth value": b'{"method":"a","id":true}',
    "id too large": b'{"method":"a","id":9223372036854775808}',
    "id too long": b'{"method":"a","id":"' + b"x" * 65 + b'"}',
    "parameters by position": b'{"method":"a","params":[1]}',
    "params is a number": b'{"method":"a","params":1}',
    "NaN": b'{"method":"a","params":{"x":NaN}}',
    "Infinity": b'{"method":"a","params":{"x":-Infinity}}',
    "out of range": b'{"method":"a","params":{"x":1e999}}',
    "thousands of digits": b'{"method":"a","params":{"x":' + b"9" * 5000 + b"}}",
    "not UTF-8": b'{"method":"a","params":{"x":"\xff"}}',
    "overlong UTF-8": b'{"method":"a","params":{"x":"\xc0\xaf"}}',
    "surrogate in UTF-8": b'{"method":"a","params":{"x":"\xed\xa0\x80"}}',
    "lone high surrogate": b'{"method":"a","params":{"x":"\\ud800"}}',
    "lone low surrogate": b'{"method":"a","params":{"x":"\\udc00"}}',
    "deep": b'{"method":"a","params":{"x":' + b"[" * 32000 + b"]" * 32000 + b"}}",
    "deep and open": b'{"method":"a","params":' + b"[" * 65000,
    "deep objects": b'{"method":"a","params":' + b'{"x":' * 10000 + b"1" + b"}" * 10001,
    "key twice": b'{"method":"a","method":"b"}',
    "key twice below": b'{"method":"a","params":{"x":[{"y":1,"y":2}]}}',
    "key twice, once escaped": b'{"method":"a","params":{"x":1,"\\u0078":2}}',
    "NUL": b'{"method":"a"}\x00',
    "too long": b'{"method":"' + b"a" * limits.CONTROL_LINE + b'"}',
}


@pytest.mark.parametrize("name", REFUSED)
def test_J155_refused(name: str) -> None:
    error = refusal(REFUSED[name])
    assert error.name == "bad-request"
    assert error.message.isprintable()
    assert len(error.message) < 300


def test_a_batch_is_refused_in_words() -> None:
    assert "batch" in refusal(b'[{"method":"a"}]').message


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else(line: bytes) -> None:
    outcome = attempt(lambda: decode_request(line))
    assert isinstance(outcome, Request | None) or outcome.name == "bad-request"


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@given(
    st.from_regex(r"[a-z][a-z.]{0,20}", fullmatch=True),
    st.dictionaries(TEXT, JSON, max_size=3),
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | TEXT,
)
def test_what_is_encoded_is_decoded(method: str, params: dict[str, object], request_id: int | str | None) -> None:
    line = encode_request(method, params, request_id)
    assert b"\n" not in line
    request = decode_request(line)
    assert request is not None
    assert (request.method, request.id, request.wants_reply) == (method, request_id, True)
    assert msgspec.json.decode(request.params) == json.loads(json.dumps(params))


@pytest.mark.parametrize("params", [{"x": object()}, {"x": "y" * limits.CONTROL_LINE}, {1.5j: 1}, {"x": "\ud800"}])
def test_what_cannot_be_a_request_is_not_sent(params: object) -> None:
    with pytest.raises(FtxError) as caught:
        encode_request("a", params)
    assert caught.value.name == "bad-parameters"


# -- replies -----------------------------------------------------------------------------------------------


def test_result() -> None:
    line = encode_result(7, b'{"ok":true}')
    assert json.loads(line) == {"jsonrpc": "2.0", "id": 7, "result": {"ok": True}}
    assert json.loads(decode_reply(line)) == {"ok": True}


def test_error() -> None:
    line = encode_error(None, FtxError("no-such-job", hint="look").as_value())
    assert json.loads(line) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": 208, "message": "there is no such job", "data": {"name": "no-such-job", "hint": "look"}},
    }
    with pytest.raises(FtxError) as caught:
        decode_reply(line)
    assert (caught.value.name, caught.value.hint) == ("no-such-job", "look")


@pytest.mark.case("K168")
def test_an_error_of_a_newer_daemon_keeps_its_family_and_is_cleaned() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"error":{"code":699,"message":"\\u001b[2J","data":{"name":"new"}}}'
    with pytest.raises(FtxError) as caught:
        decode_reply(line)
    assert caught.value.exit_code == 6
    assert caught.value.message == "\\x1b[2J"


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"7", b'{"jsonrpc":"2.0","id":1}', b'{"jsonrpc":"2.0","error":7}', b"[" * 60000, b"\xff"]
)
def test_what_is_not_a_reply(line: bytes) -> None:
    with pytest.raises(FtxError) as caught:
        decode_reply(line)
    assert caught.value.name == "protocol-error"
