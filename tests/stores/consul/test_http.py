"""Replies are read as they come: in whatever pieces, of whatever kind, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from locksmith_consul.http import NotHttp, Reader, Reply, request

LONG = b"HTTP/1.1 200 OK\r\nx-consul-index: 7\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
CLOSED = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize("raw", [LONG, CHUNKED])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_reply_in_pieces(raw: bytes, size: int) -> None:
    reader = Reader()
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    for piece in pieces[:-1]:
        assert reader.feed(piece) is None
    reply = reader.feed(pieces[-1])
    assert isinstance(reply, Reply)
    assert (reply.code, reply.body, reply.lasts) == (200, "hello", True)


def test_one_reply_after_the_other() -> None:
    reader = Reader()
    for raw in (LONG, CHUNKED, LONG):
        reply = reader.feed(raw)
        assert reply is not None
        assert reply.body == "hello"


def test_headers_are_found_however_they_are_written() -> None:
    reply = Reader().feed(LONG)
    assert reply is not None
    assert reply.header(b"x-consul-index") == "7"
    assert reply.headers["X-Consul-Index"] == "7"
    assert reply.header(b"connection") == ""


def test_a_reply_that_ends_with_its_connection() -> None:
    reader = Reader()
    assert reader.feed(CLOSED) is None
    reply = reader.feed(b"")
    assert reply is not None
    assert (reply.code, reply.lasts) == (400, False)
    assert "HTTPS server" in reply.body


def test_a_connection_that_the_server_will_close() -> None:
    reply = Reader().feed(b"HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert reply is not None
    assert not reply.lasts


@pytest.mark.parametrize("raw", [LONG[:10], LONG[:-1], CHUNKED[:-3], b""])
def test_a_connection_that_ends_too_early(raw: bytes) -> None:
    reader = Reader()
    if raw:
        assert reader.feed(raw) is None
    with pytest.raises(ConnectionResetError):
        reader.feed(b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"-ERR unknown command 'PUT'\r\n",
        b"\x15\x03\x01\x00\x02",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: lots\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
def test_what_is_no_http(raw: bytes) -> None:
    with pytest.raises(NotHttp):
        Reader().feed(raw)


def test_a_request() -> None:
    assert request(b"Host: h\r\n", "PUT", "/v1/txn", b"[]") == (
        b"PUT /v1/txn HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n[]"
    )
