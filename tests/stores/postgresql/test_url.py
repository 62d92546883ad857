"""What a URL may say, and what is said about one that cannot work. Nothing here connects."""

from __future__ import annotations

from typing import Any

import pytest

from locksmith.errors import ConfigurationError
from locksmith_sql.postgresql import url as urls

SECRET = "hunter2-is-secret"


def settings(url: str) -> list[dict[str, str]]:
    from psycopg.conninfo import conninfo_to_dict

    return [{k: str(v) for k, v in conninfo_to_dict(text.decode()).items()} for text in urls.from_url(url).attempts]


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg_async"])
def test_the_parts_of_a_url(scheme: str) -> None:
    (found,) = settings(f"{scheme}://us%40er:p%2Fw@db.example:6543/name?sslmode=require&application_name=app")
    assert found["user"] == "us@er"
    assert found["password"] == "p/w"
    assert (found["host"], found["port"], found["dbname"]) == ("db.example", "6543", "name")
    assert (found["sslmode"], found["application_name"], found["client_encoding"]) == ("require", "app", "UTF8")


def test_every_host_is_tried_by_itself() -> None:
    found = settings("postgresql://u@/d?host=a:1&host=b:2&target_session_attrs=read-write")
    assert [(one["host"], one["port"]) for one in found] == [("a", "1"), ("b", "2")]
    assert urls.from_url("postgresql://u@/d?host=a:1&host=b:2").address == "postgresql://a:1,b:2/d"


def test_options_of_our_own() -> None:
    server = urls.from_url("postgresql://u@h/d?timeout=1.5&connections=2&pooler=transaction")
    assert (server.timeout, server.connections, server.pooled) == (1.5, 2, True)
    assert urls.from_url("postgresql://u@h/d").pooled is None
    assert urls.from_url("postgresql://u@h/d?pooler=none").pooled is False


def test_what_is_shown_has_no_secrets() -> None:
    server = urls.from_url(f"postgresql://user:{SECRET}@h/d")
    assert server.address == "postgresql://h:5432/d"
    assert SECRET not in repr(server)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+asyncpg://u@h/d", "psycopg 3"),
        ("postgresql+psycopg2://u@h/d", "psycopg 3"),
        (f"postgresql://u:{SECRET}@h/d?colour=blue", "unknown option 'colour'"),
        (f"postgresql://u:{SECRET}@h/d?timeout=1&timeout=2", "twice"),
        (f"postgresql://u:{SECRET}@h/d?timeout=never", "positive number"),
        (f"postgresql://u:{SECRET}@h/d?timeout=0", "positive number"),
        (f"postgresql://u:{SECRET}@h/d?connections=0", "from 1 to 100"),
        (f"postgresql://u:{SECRET}@h/d?connections=x", "from 1 to 100"),
        (f"postgresql://u:{SECRET}@h/d?pooler=maybe", "'pooler'"),
        (f"postgresql://u:{SECRET}@h/d?mode=paranoid", "not 'paranoid'"),
        (f"postgresql://u:{SECRET}@h:port/d", "not a database URL"),
    ],
)
def test_what_cannot_work(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as raised:
        urls.from_url(url)
    error: Any = raised.value
    while error is not None:
        assert SECRET not in f"{error!r}{error}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("client", [object(), 17, "text"])
def test_clients_that_are_none(client: object) -> None:
    with pytest.raises(ConfigurationError):
        urls.from_client(client, asynchronous=False)
