"""Fencing tokens as they travel, and the check for a resource of this process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import locksmith
from locksmith import Fence, InvalidFence, StaleToken, Watermark
from locksmith.errors import ConfigurationError, GuaranteeMissing, LeaseLost, LocksmithError
from locksmith.fencing import HEADER, MAX_HEADER, MAX_TOKEN, NAME, TOKEN, fences
from locksmith.store import Guarantee

# Lone surrogates too: file names that are not UTF-8 arrive as such.
TEXTS = st.text(st.characters(exclude_categories=()), min_size=1, max_size=300)
TOKENS = st.integers(1, MAX_TOKEN)


@given(TEXTS, TOKENS)
def test_a_header_brings_every_name(name: str, token: int) -> None:
    header = Fence(name, token).to_header()
    assert Fence.from_header(header) == Fence(name, token)
    assert len(header) <= MAX_HEADER
    assert header.isascii()
    assert header.isprintable()


@pytest.mark.parametrize("name", ['"' * 1024, "\\" * 1024, "ü" * 512, "\0" * 1024, "\r\nSet-Cookie: a=b"])
def test_the_longest_and_the_worst_names(name: str) -> None:
    header = Fence(name, MAX_TOKEN).to_header()
    assert Fence.from_header(header) == Fence(name, MAX_TOKEN)
    assert len(header) <= MAX_HEADER
    assert header.isprintable()


def test_how_a_header_looks() -> None:
    """As RFC 9651 writes a string and a byte sequence. The token is one too: integers have at most 15 digits."""
    assert HEADER == "Locksmith-Fence"
    assert Fence("report:daily", 1_764_000_000_000_000).to_header() == '"report:daily";token="1764000000000000"'
    assert Fence('a "b" \\c', 7).to_header() == '"a \\"b\\" \\\\c";token="7"'
    assert Fence("für", 7).to_header() == ':ZsO8cg==:;token="7"'
    assert Fence.from_header(' "a"; token="7" ') == Fence("a", 7)
    assert Fence.from_header(':YQ==:;token="7"') == Fence("a", 7)


BAD_HEADERS = [
    "",
    "a",
    "7",
    'a;token="7"',
    '"a"',
    '"a";token=7',
    '"a";token="0"',
    '"a";token="07"',
    '"a";token="-1"',
    '"a";token="+1"',
    '"a";token="1.5"',
    '"a";token="1_0"',
    '"a";token="٣"',
    '"a";token="9223372036854775808"',
    f'"a";token="{"9" * 500}"',
    '"a";token="7";token="8"',
    '"a";token="7";more="8"',
    '"a";token="7", "b";token="8"',
    '"a" ;token="7"',
    '"a";Token="7"',
    '"";token="7"',
    '"a"b";token="7"',
    '"a\\b";token="7"',
    '"a\\";token="7"',
    '"a\n";token="7"',
    '"ü";token="7"',
    '"a";token="7"\n',
    '"a";token="7"\0',
    '::;token="7"',
    ':YQ=:;token="7"',
    ':YQ:;token="7"',
    ':YR==:;token="7"',  # decodes to the same as YQ==
    ':Y===:;token="7"',
    ':====:;token="7"',
    ':_w==:;token="7"',
    ':/w==:;token="7"',  # no UTF-8
    f'"{"a" * 1025}";token="7"',
    f'"{"a" * 100_000}";token="7"',
    '"' + "\\\\" * 50_000,
    " " * 3000 + '"a";token="7"',
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=lambda header: repr(header[:24]))
def test_a_hostile_header_is_refused_with_one_error(header: str) -> None:
    with pytest.raises(InvalidFence) as refused:
        Fence.from_header(header)
    assert len(str(refused.value)) < 300


@given(st.text(alphabet='"\\:;=token 0123456789aAé/+\n', max_size=60))
def test_whatever_is_read_is_written_alike(header: str) -> None:
    try:
        read = Fence.from_header(header)
    except InvalidFence:
        return
    assert Fence.from_header(read.to_header()) == read


def test_no_header() -> None:
    with pytest.raises(InvalidFence, match="has no header Locksmith-Fence"):
        Fence.from_header(None)
    with pytest.raises(InvalidFence):
        Fence.from_header(b'"a";token="7"')  # type: ignore[arg-type]


@given(TEXTS, TOKENS)
def test_an_environment_brings_every_name_it_can_hold(name: str, token: int) -> None:
    try:
        written = Fence(name, token).to_environment()
    except InvalidFence:
        assert "\0" in name or any("\ud800" <= character <= "\udfff" for character in name)
        return
    assert Fence.from_environment(written) == Fence(name, token)


def test_an_environment_reaches_a_child() -> None:
    name = 'für "alle" = \n \udcff'
    said = "import os, sys, locksmith; sys.stdout.buffer.write(locksmith.Fence.from_environment().to_header().encode())"
    done = subprocess.run(
        [sys.executable, "-c", said],
        env={**os.environ, "PYTHONUTF8": "1", **Fence(name, 7).to_environment()},
        capture_output=True,
        check=True,
    )
    assert Fence.from_header(done.stdout.decode()) == Fence(name, 7)


WRONG_NUMBERS = [{NAME: "a", TOKEN: text} for text in ("", " 7", "0", "7.0", "x")]


@pytest.mark.parametrize("environ", [{}, {NAME: "a"}, {TOKEN: "7"}, {NAME: "", TOKEN: "7"}, *WRONG_NUMBERS])
def test_a_wrong_environment(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidFence):
        Fence.from_environment(environ)


def test_a_wrong_environment_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    with pytest.raises(InvalidFence, match="locksmith run"):
        Fence.from_environment()


@pytest.mark.parametrize(
    ("name", "token"), [("", 1), ("a", 0), ("a", -1), ("a", 2**63), ("a", True), ("a", "1"), (1, 1)]
)
def test_what_is_no_fence(name: object, token: object) -> None:
    with pytest.raises(InvalidFence):
        Fence(name, token)  # type: ignore[arg-type]


# Leases.


def test_the_fence_of_a_lease() -> None:
    with locksmith.connect("memory://") as client:
        lease = client.lock("a").acquire()
        assert fences(lease) == (Fence("a", lease.token),)
        assert Fence.of(lease) == Fence.of(Fence("a", lease.token))
        with client.rwlock("b").write().acquire() as writer:
            assert Fence.of(writer) == Fence("b", writer.token)
        lease.release()
        with pytest.raises(LeaseLost, match="released before"):
            Fence.of(lease)


def test_those_who_hold_side_by_side_are_refused() -> None:
    """A lower token among them is no late one, and must not be refused by a resource."""
    with locksmith.connect("memory://") as client:
        with client.semaphore("a", limit=2).acquire() as one, pytest.raises(ConfigurationError, match="side by side"):
            Fence.of(one)
        with client.rwlock("b").read().acquire() as reader, pytest.raises(ConfigurationError, match="side by side"):
            Fence.of(reader)
        with client.semaphore("a", limit=2).acquire(permits=2) as both:
            assert Fence.of(both).name == "a"


def test_a_store_whose_tokens_do_not_grow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with locksmith.connect("memory://") as client, client.lock("a").acquire() as lease:
        monkeypatch.setattr(type(lease.store), "guarantees", Guarantee.SHARED)
        with pytest.raises(GuaranteeMissing, match="FENCED"):
            Fence.of(lease)


def test_leases_of_several_names(namespace: str) -> None:
    class Several:
        def __init__(self, *leases: locksmith.Lease) -> None:
            self.grants = tuple(lease.grants[0] for lease in leases)
            self.store = leases[0].store

        def check(self) -> None: ...

    with locksmith.connect("memory://") as client:
        both = Several(client.lock("b").acquire(), client.lock("a").acquire())
        assert [fence.name for fence in fences(both)] == ["a", "b"]
        with pytest.raises(ConfigurationError, match="2 names"):
            Fence.of(both)
        mark = Watermark()
        with mark.admit(both):
            pass
        assert mark.seen("a") == fences(both)[0].token
        assert mark.seen("b") == fences(both)[1].token


@pytest.mark.parametrize("thing", [None, 7, "a", ("a", 7), object()])
def test_what_is_no_lease(thing: object) -> None:
    with pytest.raises(ConfigurationError, match="takes a lease or a Fence"):
        fences(thing)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_the_asyncio_face() -> None:
    async with locksmith.aio.connect("memory://") as client, await client.lock("a").acquire() as lease:
        assert Fence.of(lease) == Fence("a", lease.token)


# The check.


def test_a_lower_token_is_refused() -> None:
    mark = Watermark()
    for token in (5, 5, 9, 9):
        with mark.admit(Fence("a", token)):
            pass
    with (
        pytest.raises(StaleToken, match="token 5 comes too late, the holder with token 9") as late,
        mark.admit(Fence("a", 5)),
    ):
        pytest.fail("it was admitted")  # fmt: skip
    assert late.value.seen == 9
    assert isinstance(late.value, LeaseLost)
    with mark.admit(Fence("b", 1)):
        pass
    assert (mark.seen("a"), mark.seen("b"), mark.seen("c")) == (9, 1, 0)


def test_it_goes_on_where_another_one_stopped() -> None:
    with pytest.raises(StaleToken), Watermark({"a": 9}).admit(Fence("a", 8)):
        pytest.fail("it was admitted")


def test_one_write_at_a_time() -> None:
    """Between check and write there is no gap: an older writer that was admitted is done before a newer one is."""
    mark, inside, order = Watermark(), threading.Event(), []

    def newer() -> None:
        inside.set()
        with mark.admit(Fence("a", 2)):
            order.append("newer")

    with mark.admit(Fence("a", 1)):
        other = threading.Thread(target=newer)
        other.start()
        assert inside.wait(30)
        order.append("older")
    other.join(30)
    assert order == ["older", "newer"]


@pytest.mark.asyncio
async def test_an_await_inside_is_told_and_does_not_hang() -> None:
    mark = Watermark()

    async def write(token: int) -> None:
        with mark.admit(Fence("a", token)):
            await asyncio.sleep(0)

    found = await asyncio.gather(write(1), write(2), return_exceptions=True)
    assert found[0] is None
    assert isinstance(found[1], ConfigurationError)
    await write(3)


def test_what_is_raised_inside_leaves_it_open() -> None:
    mark = Watermark()
    with pytest.raises(LocksmithError, match="mine"), mark.admit(Fence("a", 1)):
        raise LocksmithError("mine")
    with mark.admit(Fence("a", 1)):
        pass
