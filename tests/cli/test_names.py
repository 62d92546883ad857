"""ls, show, break: what people ask about names, and how it is answered."""

from __future__ import annotations

import json
import os
import threading

import pytest

import locksmith
from locksmith.testing import eventually

pytestmark = pytest.mark.native_threads

EVIL = "a\nb\x1b[31m\t[bold]x[/bold] :smile: \\ \u202e"


def test_ls_of_nothing(cli, store):
    done = cli("ls", "--store", store)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"no name is in use at {store}\n"
    assert cli("ls", "--store", store, "--json").last_json == []


def test_ls_shows_holders_and_waiters(cli, store, client):
    with (
        client.lock("reports:daily").acquire(note="nightly") as lease,
        client.semaphore("gpu", limit=4).acquire(permits=3),
    ):
        done = cli("ls", "--store", store)
        assert done.status == 0
        for told in ("reports:daily", "nightly", str(os.getpid()), str(lease.token), "semaphore of 4"):
            assert told in done.out
        records = cli("ls", "rep", "--store", store, "--json").last_json
    assert [record["name"] for record in records] == ["reports:daily"]
    assert records[0]["holders"][0]["note"] == "nightly"


def test_options_may_stand_before_the_command_and_in_the_environment(cli, store, client):
    with client.lock("x").acquire():
        assert [record["name"] for record in cli("--json", "--store", store, "ls").last_json] == ["x"]
        assert [record["name"] for record in cli("ls", "--json", LOCKSMITH_URL=store).last_json] == ["x"]
        assert cli("ls", "--json", "--namespace", "other", LOCKSMITH_URL=store).last_json == []


def test_show_tells_everything(cli, store, client):
    lease = client.lock("x").acquire(note="first")
    waiting = threading.Thread(target=lambda: client.lock("x").acquire(note="second").release())
    waiting.start()
    eventually(lambda: client.inspect("x").waiters)
    try:
        shown = cli("show", "x", "--store", store)
        record = cli("show", "x", "--store", store, "--json").last_json
    finally:
        lease.release()
        waiting.join()
    assert shown.status == 0
    for told in ("first", "second", str(lease.token), "1 of 1"):
        assert told in shown.out
    (holder,), (waiter,) = record["holders"], record["waiters"]
    assert holder["token"] == record["token"] == lease.token
    assert (holder["pid"], holder["note"]) == (os.getpid(), "first")
    assert 10 < holder["remaining"] <= 30
    assert 0 <= holder["held_for"] < 20
    assert waiter["note"] == "second"
    assert "owner" not in json.dumps(record), "an owner is what makes a release ours"


def test_show_of_a_rwlock_says_who_reads_and_who_writes(cli, store, client):
    with client.rwlock("catalog").read().acquire(), client.rwlock("catalog").read().acquire():
        assert [h["mode"] for h in cli("show", "catalog", "--store", store, "--json").last_json["holders"]] == [
            "read"
        ] * 2
    with client.rwlock("catalog").write().acquire():
        assert "write" in cli("show", "catalog", "--store", store).out


def test_show_of_an_unused_name_is_a_no(cli, store):
    done = cli("show", "nobody's", "--store", store)
    assert done.status == 1
    assert "nobody holds it" in done.out
    assert cli("show", "nobody's", "--store", store, "--json").last_json["holders"] == []


@pytest.mark.parametrize("name", [EVIL, "-x", "--json", "täglich", "\udcff"], ids=ascii)
def test_names_are_shown_safely_and_told_exactly(cli, store, client, name):
    with client.lock(name).acquire(note=EVIL):
        listed = cli("ls", "--store", store)
        shown = cli("show", "--store", store, "--", name)
        told = cli("show", "--store", store, "--json", "--", name).last_json
    assert shown.status == 0
    for text in (listed.out, shown.out):
        assert text.replace("\n", "").isprintable()
        assert r"a\nb\x1b[31m\t[bold]x[/bold] :smile: \\ \u202e" in text
    assert (told["name"], told["holders"][0]["note"]) == (name, EVIL)


def test_break_takes_the_name(cli, store, client):
    lease = client.lock("x").acquire()
    done = cli("break", "x", "--yes", "--store", store)
    assert done.status == 0
    assert str(lease.token) in done.out
    assert client.inspect("x").holders == []
    with pytest.raises(locksmith.LeaseLost):
        lease.release()


def test_break_without_a_terminal_refuses_and_breaks_nothing(cli, store, client):
    with client.lock("x").acquire() as lease:
        done = cli("break", "x", "--store", store, stdin="y\n")
        assert done.status == 2
        assert "--yes" in done.error
        lease.check()
        assert len(client.inspect("x").holders) == 1


def test_break_of_several_holders(cli, store, client):
    gpu = client.semaphore("gpu", limit=3)
    leases = [gpu.acquire() for _ in range(3)]
    one = cli("break", "gpu", "--yes", "--token", str(leases[1].token), "--json", "--store", store)
    assert one.last_json == {"name": "gpu", "broken": [leases[1].token], "gone": [], "kept": []}
    rest = cli("break", "gpu", "--yes", "--json", "--store", store)
    assert sorted(rest.last_json["broken"]) == [leases[0].token, leases[2].token]
    for lease in leases:
        with pytest.raises(locksmith.LeaseLost):
            lease.release()


@pytest.mark.parametrize("token", [[], ["--token", "7"]])
def test_break_of_nobody_is_a_no(cli, store, token):
    done = cli("break", "x", "--yes", "--store", store, *token)
    assert (done.status, done.err) == (1, "")
    assert "holds x" in done.out
