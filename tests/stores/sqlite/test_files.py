"""Files and URLs that cannot work, and what is said about them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from locksmith.errors import (
    ClientClosed,
    ConfigurationError,
    StoreAuthError,
    StoreProtocolError,
    StoreUnavailable,
)
from locksmith.runtime import Blocking, drive
from locksmith_sql import SQLiteStore
from locksmith_sql.schema import prefix
from locksmith_sql.sqlite import mounts, opening
from locksmith_sql.sqlite.mounts import is_network, kind_of


def _ask(store: SQLiteStore, claim: Any) -> Any:
    return drive(store.acquire(claim(), queue=False))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///x.db?timeout=soon", "number of seconds"),
        ("sqlite:///x.db?timeout=0", "number of seconds"),
        ("sqlite:///x.db?timeout=inf", "number of seconds"),
        ("sqlite:///x.db?timeout=1&timeout=2", "twice"),
        ("sqlite:///x.db?cache=shared", "unknown option 'cache'"),
        ("sqlite://host/x.db", "no host"),
        ("sqlite+aiosqlite:///x.db", "sqlite:///path"),
    ],
)
def test_urls_that_cannot_work(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        SQLiteStore.from_url(url, runtime=Blocking(), namespace="t")


def test_urls_mean_what_sqlalchemy_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claim: Any) -> None:
    """Nothing is opened before the first request; a relative path does not follow a later chdir."""
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore.from_url("sqlite:///here.db?timeout=2.5", runtime=Blocking(), namespace="t")
    assert not list(tmp_path.iterdir())
    monkeypatch.chdir("/")
    assert _ask(store, claim)
    assert (tmp_path / "here.db").exists()
    assert store.address == f"sqlite:///{tmp_path}/here.db"
    other = SQLiteStore.from_url(f"sqlite+pysqlite:////{tmp_path}/here.db", runtime=Blocking(), namespace="t")
    assert _ask(other, claim) is None
    drive(store.close())
    drive(other.close())


def test_strange_paths(tmp_path: Path, claim: Any) -> None:
    for name in ("with space.db", "ünïcode.db", "qu'ote.db"):
        store = SQLiteStore.from_url(f"sqlite:///{tmp_path}/{name}", runtime=Blocking(), namespace="t")
        assert _ask(store, claim)
        assert (tmp_path / name).exists()
        drive(store.close())


def test_nothing_is_left_beside_the_file_after_close(open_store: Any, claim: Any, path: Path) -> None:
    store = open_store()
    _ask(store, claim)
    drive(store.close())
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(ClientClosed):
        _ask(store, claim)


def test_a_directory_that_does_not_exist(open_store: Any, claim: Any, tmp_path: Path) -> None:
    store = open_store(url=f"sqlite:///{tmp_path}/missing/locks.db")
    with pytest.raises(StoreUnavailable, match=r"no directory .*/missing .*create it") as caught:
        _ask(store, claim)
    assert caught.value.__cause__ is not None


def test_a_directory_in_place_of_the_file(open_store: Any, claim: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        _ask(open_store(url=f"sqlite:///{tmp_path}"), claim)


def test_a_place_where_nothing_can_be_created(open_store: Any, claim: Any) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        _ask(open_store(url="sqlite:////proc/locks.db"), claim)


@pytest.mark.parametrize("case", ["directory", "file", "path"])
def test_a_place_that_this_user_may_not_use(open_store: Any, claim: Any, case: str) -> None:
    """In a child that is nobody, where the tests are run by root, whom nothing is forbidden."""
    base = Path(tempfile.mkdtemp())  # pytest's own directories are closed to others
    base.chmod(0o755)
    place = base / "sub" / "locks.db"
    place.parent.mkdir()
    if case == "file":
        place.touch(0o444)
    place.parent.chmod({"directory": 0o555, "file": 0o777, "path": 0o000}[case])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            try:
                _ask(open_store(url=f"sqlite:///{place}"), claim)
            except StoreAuthError as error:
                code = 0 if "may not" in str(error) and str(place) in str(error) else 2
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    place.parent.chmod(0o755)
    shutil.rmtree(base)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_file_that_may_only_be_read(open_store: Any, claim: Any, path: Path) -> None:
    _ask(open_store(), claim)
    engine = sa.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    store = SQLiteStore.from_client(engine, runtime=Blocking(), namespace="test")
    with pytest.raises(StoreAuthError, match="may not be written"):
        _ask(store, claim)
    drive(store.close())
    engine.dispose()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at. " * 40, b"SQLite format 3\0" * 400]
)
def test_a_file_of_another_kind(open_store: Any, claim: Any, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreProtocolError, match="not a sound SQLite database"):
        _ask(open_store(), claim)
    assert path.read_bytes() == content, "and nothing was done to it"


def test_a_file_damaged_under_us(open_store: Any, claim: Any, path: Path) -> None:
    first = open_store()
    for i in range(300):
        drive(first.acquire(claim(f"name{i}"), queue=False))
    drive(first.close())
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)

    def ask_all() -> None:
        for i in range(300):
            drive(open_store().acquire(claim(f"name{i}"), queue=False))

    with pytest.raises(StoreProtocolError):
        ask_all()


def test_tables_of_another_version(open_store: Any, claim: Any, path: Path) -> None:
    store = open_store()
    _ask(store, claim)
    store._desk._link.raw.execute("UPDATE test_meta SET version = 99")
    with pytest.raises(StoreProtocolError, match=r"test_\* .* version 99"):
        _ask(open_store(), claim)


def test_somebody_elses_table_of_our_name(open_store: Any, claim: Any, path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE test_meta (what text)")
    raw.close()
    with pytest.raises(StoreProtocolError, match="version"):
        _ask(open_store(), claim)


def test_other_tables_in_the_file_do_not_mind(open_store: Any, claim: Any, path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE lease (mine text)")
    raw.close()
    assert _ask(open_store(), claim)


def test_tables_dropped_under_us_are_made_again(open_store: Any, claim: Any) -> None:
    store = open_store()
    _ask(store, claim)
    store._desk._link.raw.execute("DROP TABLE test_lease")
    store._desk._link.raw.execute("DROP TABLE test_meta")
    with pytest.raises(StoreProtocolError, match="changed under us"):
        _ask(store, claim)
    assert _ask(store, claim)


def test_a_file_deleted_under_us_is_noticed(open_store: Any, claim: Any, path: Path) -> None:
    """F21: who goes on with the deleted file and who opens the new one must not both believe."""
    store = open_store()
    grant = _ask(store, claim)
    for file in path.parent.iterdir():
        file.unlink()
    other = _ask(open_store(), claim)
    assert other is not None
    (word,) = drive(store.beat([grant], [], within=5))
    assert type(word).__name__ == "Lost"
    assert _ask(store, claim) is None


def test_namespaces_are_apart(open_store: Any, claim: Any) -> None:
    assert _ask(open_store(namespace="one"), claim)
    assert _ask(open_store(namespace="two"), claim)
    assert _ask(open_store(namespace='o"ne; DROP TABLE one_lease; --'), claim)
    assert _ask(open_store(namespace="one"), claim) is None


def test_prefixes_never_collide() -> None:
    names = [
        "app",
        "App",
        "APP",
        "app ",
        "a_pp",
        "a__pp",
        "a-pp",
        "a.pp",
        "1app",
        "",
        "app\0",
        "ä",
        "napp",
        "n_app__x",
        "x" * 99,
    ]
    prefixes = [prefix(name) for name in names]
    assert prefixes[0] == "app"
    assert len({text.lower() for text in prefixes}) == len(names)
    assert all(text.isascii() and text.isidentifier() for text in prefixes)


def test_sqlite_that_is_too_old(open_store: Any, claim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening.sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigurationError, match=r"3\.35 or later"):
        _ask(open_store(), claim)


def test_network_file_systems_are_refused(
    open_store: Any, claim: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        f"40 22 0:40 / {tmp_path} rw,relatime shared:1 - nfs4 server:/export rw\n"
        f"41 22 0:41 / {tmp_path}/with\\040space rw - fuse.sshfs host: rw\n"
    )
    monkeypatch.setattr(mounts, "_TABLE", table)
    assert kind_of(f"{tmp_path}/locks.db", table) == "nfs4"
    assert kind_of(f"{tmp_path}/with space/locks.db", table) == "fuse.sshfs"
    assert kind_of(f"{tmp_path}x/locks.db", table) == "ext4"
    assert is_network("cifs")
    assert not is_network("ext4")
    assert not is_network(None)
    monkeypatch.setattr(opening, "kind_of", lambda path: kind_of(path, table))
    with pytest.raises(ConfigurationError, match=r"network file system \(nfs4\)"):
        _ask(open_store(), claim)


def test_an_engine_of_the_users(claim: Any, path: Path) -> None:
    """Whatever its pool and its settings; it stays open, and its own connections are as they were."""
    kinds: list[dict[str, Any]] = [
        {},
        {"poolclass": sa.NullPool},
        {"poolclass": sa.StaticPool},
        {"pool_size": 1, "max_overflow": 0},
        {"isolation_level": "SERIALIZABLE"},
    ]
    if sys.version_info >= (3, 12):
        kinds.append({"connect_args": {"autocommit": False}})
    for settings in kinds:
        engine = sa.create_engine(f"sqlite:///{path}", **settings)
        store = SQLiteStore.from_client(engine, runtime=Blocking(), namespace="test")
        grant = _ask(store, claim)
        assert grant is not None
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE IF NOT EXISTS theirs (x int)"))
            connection.execute(sa.text("INSERT INTO theirs VALUES (1)"))
        assert drive(store.release(grant)) is True
        drive(store.close())
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM theirs")).scalar_one() > 0
        engine.dispose()


def test_engines_that_cannot_work() -> None:
    memory = sa.create_engine("sqlite://")
    with pytest.raises(ConfigurationError, match="memory://"):
        SQLiteStore.from_client(memory, runtime=Blocking(), namespace="t")
    with pytest.raises(ConfigurationError, match=r"takes an sqlalchemy\.Engine, not a str"):
        SQLiteStore.from_client("engine", runtime=Blocking(), namespace="t")


def test_an_asyncio_engine_is_refused_with_a_sentence() -> None:
    class AsyncEngine:
        pass

    with pytest.raises(ConfigurationError, match="not a AsyncEngine: for asyncio too"):
        SQLiteStore.from_client(AsyncEngine(), runtime=Blocking(), namespace="t")


def test_diagnose(open_store: Any, claim: Any, path: Path) -> None:
    store = open_store()
    _ask(store, claim)
    assert {finding.level for finding in drive(store.diagnose())} == {"ok"}
    path.chmod(0o666)
    found = {finding.what: finding.level for finding in drive(store.diagnose())}
    assert found["everybody on this machine may write to the file"] == "warning"


def test_busy_for_too_long(open_store: Any, claim: Any, path: Path) -> None:
    """Somebody keeps the write lock: unavailable after the timeout, and a beat after `within`."""
    store = open_store(url=f"sqlite:///{path}?timeout=0.3")
    grant = _ask(store, claim)
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    clock = store.runtime.clock
    for ask, bound in (
        (lambda: _ask(store, claim), 0.3),
        (lambda: drive(store.release(grant)), 0.3),
        (lambda: drive(store.beat([grant], [], within=0.1)), 0.1),
    ):
        began = clock.now()
        with pytest.raises(StoreUnavailable, match="try again"):
            ask()
        assert bound / 2 < clock.now() - began < bound + 0.5
    assert drive(store.inspect("a")).holders, "reading goes on"
    raw.execute("ROLLBACK")
    raw.close()
    assert drive(store.release(grant)) is True


def test_a_disk_that_is_full(open_store: Any, claim: Any) -> None:
    store = open_store()
    _ask(store, claim)
    raw = store._desk._link.raw
    raw.execute("PRAGMA max_page_count = 1")

    def fill() -> None:
        for i in range(500):
            drive(store.acquire(claim(f"name{i}"), queue=False))

    with pytest.raises(StoreUnavailable, match="disk is full: free some space"):
        fill()
