"""Where a URL, or a client of py-consul, leads; and that no token is ever shown."""

from __future__ import annotations

import ssl
from pathlib import Path

import consul
import pytest

import locksmith
from locksmith.errors import ConfigurationError
from locksmith.runtime import Blocking
from locksmith.testing.servers import make_certificates
from locksmith_consul import ConsulStore
from locksmith_consul.url import from_client, from_url

TOKEN = "b1gs33cr3t-0000-1111"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY"):
        monkeypatch.delenv(name, raising=False)


def test_what_a_url_says() -> None:
    server = from_url(f"consul://:{TOKEN}@agent.example:8600/?dc=east&timeout=2.5")
    assert (server.host, server.port, server.dc, server.timeout) == ("agent.example", 8600, "east", 2.5)
    assert server.token == TOKEN
    assert server.tls is None
    assert server.address == "consul://agent.example:8600/?dc=east"


def test_defaults() -> None:
    server = from_url("consul://")
    assert (server.host, server.port, server.token, server.timeout) == ("localhost", 8500, "", 5.0)
    assert from_url("consuls://h").port == 8501
    assert from_url("consul://[::1]:8500").place == "[::1]:8500"


def test_a_token_of_the_environment_is_for_urls_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "theirs")
    assert from_url("consul://h").token == "theirs"
    store = ConsulStore.from_url(f"consul://{TOKEN}@h", runtime=Blocking(), namespace="n")
    assert f"X-Consul-Token: {TOKEN}".encode() in store._link.payload("GET", "/")
    assert store._driver.token == TOKEN


def test_tls(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    tls = from_url(f"consuls://h?ca={files.authority}&cert={files.client}&key={files.client_key}").tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    tls = from_url("consuls://h?verify=false").tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize(
    "url",
    [
        "consul://h:port",
        "consul://h:99999",
        "consul://h/path",
        "consul://h?datacenter=x",
        "consul://h?dc=a&dc=b",
        "consul://h?timeout=0",
        "consul://h?timeout=nan",
        "consul://h?timeout=soon",
        "consul://h?verify=false",
        "consul://h?ca=/etc/ca.pem",
        "consuls://h?ca=/no/such/file",
        f"consuls://h?ca={__file__}",
        "consuls://h?verify=maybe",
        f"consuls://h?key={__file__}",
        "consul://to%0D%0Aken@h",
    ],
)
def test_what_cannot_work_is_refused_without_showing_the_token(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        from_url(url.replace("//h", f"//:{TOKEN}@h"))
    assert TOKEN not in str(refused.value)
    assert refused.value.__context__ is None or TOKEN not in str(refused.value.__context__)


def test_a_token_is_never_shown() -> None:
    url = f"consul://:{TOKEN}@127.0.0.1:1/"
    client = locksmith.connect(url)
    store = ConsulStore.from_url(url, runtime=Blocking(), namespace="n")
    with pytest.raises(locksmith.StoreUnavailable) as error:
        client.lock("n").try_acquire()
    for shown in (repr(client), repr(store), store.address, repr(store._server), str(error.value)):
        assert TOKEN not in shown
    client.close()


def test_a_client_of_py_consul() -> None:
    server = from_client(consul.Consul("h", 8600, token=TOKEN, dc="east"))
    assert (server.host, server.port, server.token, server.dc, server.tls) == ("h", 8600, TOKEN, "east", None)
    secure = from_client(consul.Consul("h", 8501, scheme="https", verify=False))
    assert secure.tls is not None
    assert secure.tls.verify_mode == ssl.CERT_NONE
    with pytest.raises(ConfigurationError, match=r"consul\.Consul"):
        from_client(object())
