"""What URLs and clients mean: the same as redis-py's and kombu's users mean by them, or a refusal."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import redis
import redis.asyncio
import redis.cluster

from locksmith.errors import ConfigurationError
from locksmith.runtime import Blocking
from locksmith.runtime_asyncio import Asyncio
from locksmith_redis import RedisStore
from locksmith_redis.server import Server
from locksmith_redis.url import TIMEOUT, from_client, from_url


def read(url: str) -> Server:
    return from_url(url, asynchronous=False)


def test_defaults() -> None:
    server = read("redis://")
    assert server.address == "redis://localhost:6379/0"
    assert server.timeout == TIMEOUT
    assert server.settings["socket_timeout"] == server.settings["socket_connect_timeout"] == TIMEOUT


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://example.org:1234/3", "redis://example.org:1234/3"),
        ("redis://example.org?db=4", "redis://example.org:6379/4"),
        ("redis://[::1]:7/", "redis://[::1]:7/0"),
        ("rediss://example.org/2", "rediss://example.org:6379/2"),
        ("redis+unix:///run/redis.sock?db=5", "redis+unix:///run/redis.sock?db=5"),
        ("redis+unix:///run/redis.sock?virtual_host=6", "redis+unix:///run/redis.sock?db=6"),
        ("redis+unix://:secret@/run/redis%20here.sock", "redis+unix:///run/redis here.sock?db=0"),
        ("redis://bob:secret@example.org/0", "redis://example.org:6379/0"),
    ],
)
def test_addresses_show_no_secrets(url: str, address: str) -> None:
    assert read(url).address == address
    assert "secret" not in repr(read(url))


def test_credentials_are_decoded() -> None:
    settings = read("redis://b%40b:p%2Fw%3A%25@h/0").settings
    assert (settings["username"], settings["password"]) == ("b@b", "p/w:%")
    settings = read("redis://h/0?username=bob&password=p%2Fw").settings
    assert (settings["username"], settings["password"]) == ("bob", "p/w")


def test_timeouts() -> None:
    settings = read("redis://h?timeout=2").settings
    assert settings["socket_timeout"] == settings["socket_connect_timeout"] == 2.0
    settings = read("redis://h?timeout=2&socket_connect_timeout=0.5&client_name=me").settings
    assert (settings["socket_timeout"], settings["socket_connect_timeout"]) == (2.0, 0.5)
    assert settings["client_name"] == "me"


@pytest.mark.parametrize("word", ["required", "CERT_REQUIRED", "optional", "CERT_OPTIONAL", "none", "CERT_NONE"])
def test_certificate_requirements(word: str) -> None:
    settings = read(f"rediss://h?ssl_cert_reqs={word}").settings
    assert settings["ssl_cert_reqs"] == word.lower().removeprefix("cert_")
    assert settings["ssl_check_hostname"] is (not word.lower().endswith("none"))


def test_tls_verifies_unless_told_otherwise(tmp_path: Path) -> None:
    settings = read("rediss://h").settings
    assert settings["ssl_cert_reqs"] == "required"
    assert settings["ssl_check_hostname"] is True
    assert read("rediss://h?ssl_check_hostname=false").settings["ssl_check_hostname"] is False
    pem = tmp_path / "ca.pem"
    pem.write_text("")
    settings = read(
        f"rediss://h?ssl_ca_certs={pem}&ssl_certfile={pem}&ssl_keyfile={pem}&ssl_min_version=TLSv1_3"
    ).settings
    assert settings["ssl_ca_certs"] == settings["ssl_certfile"] == settings["ssl_keyfile"] == str(pem)
    assert settings["ssl_min_version"] is ssl.TLSVersion.TLSv1_3
    assert read("rediss://h?ssl_min_version=771").settings["ssl_min_version"] is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:hunter2@h:port/0", "not a URL"),
        ("redis://:hunter2@h/nought", "is a number"),
        ("redis://:hunter2@h/0?db=-1", "is a number"),
        ("redis://:hunter2@h/0?speed=11", "known are db, timeout"),
        ("redis://:hunter2@h/0?timeout=0", "positive number"),
        ("redis://:hunter2@h/0?timeout=soon", "positive number"),
        ("redis://:hunter2@h/0?timeout=1&timeout=2", "twice"),
        ("redis://:hunter2@h/0?ssl_cert_reqs=none", "rediss://"),
        ("rediss://:hunter2@h/0?ssl_cert_reqs=perhaps", "required, optional or none"),
        ("rediss://:hunter2@h/0?ssl_check_hostname=perhaps", "true or false"),
        ("rediss://:hunter2@h/0?ssl_ca_certs=/no/such/file&ssl_password=hunter2", "no file"),
        ("rediss://:hunter2@h/0?ssl_min_version=SSLv2", "TLSv1_2"),
        ("redis+unix://:hunter2@run/redis.sock", "three slashes"),
        ("redis+unix://", "three slashes"),
        ("redis://:hunter2@h/0?decode_responses=true", "unknown option"),
    ],
)
def test_refusals_say_what_to_write(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        read(url)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__cause__)


def test_clients_of_either_colour() -> None:
    ours = from_client(redis.Redis("example.org", 1234, 5, decode_responses=True), asynchronous=False)
    assert ours.address == "redis://example.org:1234/5"
    assert "decode_responses" not in ours.settings
    assert from_client(redis.asyncio.Redis(), asynchronous=True).address == "redis://localhost:6379/0"
    slow = redis.Redis(socket_timeout=None, socket_connect_timeout=None)
    assert from_client(slow, asynchronous=False).settings["socket_timeout"] == TIMEOUT
    quick = redis.Redis(socket_timeout=0.5)
    assert from_client(quick, asynchronous=False).timeout == 0.5
    assert from_client(redis.Redis(ssl=True), asynchronous=False).address.startswith("rediss://")
    by_path = redis.Redis(unix_socket_path="/run/redis.sock")
    assert from_client(by_path, asynchronous=False).address == "redis+unix:///run/redis.sock?db=0"


def test_the_wrong_colour_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"takes a redis.Redis; .* locksmith.aio.connect"):
        RedisStore.from_client(redis.asyncio.Redis(), runtime=Blocking(), namespace="n")
    with pytest.raises(ConfigurationError, match=r"takes a redis.asyncio.Redis; .* locksmith.connect"):
        RedisStore.from_client(redis.Redis(), runtime=Asyncio(), namespace="n")
    for stranger in (object(), redis.ConnectionPool(), redis.Redis):
        with pytest.raises(ConfigurationError, match=r"pass a redis.Redis"):
            RedisStore.from_client(stranger, runtime=Blocking(), namespace="n")
