"""mysql:// and mariadb:// URLs, and SQLAlchemy engines: how connections to a server are opened."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import SQLAlchemyError

from locksmith.errors import ConfigurationError, DriverMissing
from locksmith_sql import url as urls

TESTED: Final = ("pymysql", "aiomysql")
_DRIVERS: Final = {False: ("pymysql", "mysqldb"), True: ("aiomysql", "asyncmy")}
_MODULES: Final = {"mysqldb": "MySQLdb"}
_TLS: Final = ("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_check_hostname")
_OPTIONS: Final = ("timeout", "connections", "unix_socket", "ssl", *_TLS, "server_public_key")
_YES: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Server:
    """Where the server is, and how to get there. Nothing is opened here."""

    tls = False
    """Whether every connection must be encrypted."""
    connections: int = 16
    """How many connections make requests at the same time, at most."""

    def __init__(self, address: str, driver: str, database: str, timeout: float) -> None:
        self.address = address
        self.driver = driver
        self.database = database
        self.timeout = timeout

    def open(self, seconds: float) -> Any:
        """A driver's connection within so many seconds (asyncio: an awaitable of one). Raises the driver's errors."""
        raise NotImplementedError


class UrlServer(Server):
    """A server by URL. SQLAlchemy says what the driver's `connect` is called with; its pool is not used."""

    def __init__(self, url: sa.URL, driver: str, timeout: float, extra: Mapping[str, Any], address: str) -> None:
        super().__init__(address, driver, url.database or "", timeout)
        self._dialect = _dialect(url)
        self._arguments, self._settings = self._dialect.create_connect_args(url)
        self._settings = {**self._settings, **extra}
        self._connect = importlib.import_module(_MODULES.get(driver, driver)).connect

    def open(self, seconds: float) -> Any:
        settings = {**self._settings, "connect_timeout": seconds}
        if self.driver == "pymysql":
            settings["read_timeout"] = settings["write_timeout"] = seconds
        elif self.driver == "mysqldb":  # whole seconds, and for the life of the connection
            limit = max(1, round(self.timeout))
            settings["connect_timeout"] = settings["read_timeout"] = settings["write_timeout"] = limit
        return self._connect(*self._arguments, **settings)


class EngineServer(Server):
    """The server of an engine that belongs to the user; connections come from its pool, and are taken out of it."""

    def __init__(self, engine: Any, *, asynchronous: bool) -> None:
        url = engine.url
        super().__init__(_address(url), engine.dialect.driver, url.database or "", urls.DEFAULT_TIMEOUT)
        self._engine = engine
        self._asynchronous = asynchronous

    def open(self, seconds: float) -> Any:
        return self._open_async() if self._asynchronous else _detached(self._engine.raw_connection())

    async def _open_async(self) -> Any:
        return _detached(await self._engine.raw_connection())


def _detached(pooled: Any) -> Any:
    # Out of the pool for good: what we set on it stays with us, and a user's pool is not short of one.
    raw = pooled.driver_connection
    pooled.detach()
    return raw


def from_url(url: str, *, asynchronous: bool) -> Server:
    """The server of a URL. Raises ConfigurationError, DriverMissing."""
    parsed = urls.parse(url)
    driver = _driver(parsed.drivername, asynchronous=asynchronous)
    if not parsed.database:
        raise ConfigurationError("a MariaDB or MySQL URL names a database: mysql://user:password@host:3306/database")
    given = urls.options(parsed, _OPTIONS)
    timeout = urls.seconds("timeout", given.get("timeout"), urls.DEFAULT_TIMEOUT)
    extra: dict[str, Any] = {"charset": "utf8mb4", **_tls(given, driver)}
    if "unix_socket" in given:
        extra["unix_socket"] = given["unix_socket"]
    if "server_public_key" in given:
        extra["server_public_key"] = given["server_public_key"].encode()
    plain = parsed.set(drivername=f"mysql+{driver}", query={})
    server = UrlServer(plain, driver, timeout, extra, _address(parsed))
    server.tls = "ssl" in extra
    server.connections = _connections(given.get("connections"), server.connections)
    return server


def from_client(client: object, *, asynchronous: bool) -> Server:
    """The server of an Engine, or for asyncio of an AsyncEngine. Raises ConfigurationError."""
    engine: Any = client
    wanted = "AsyncEngine" if asynchronous else "Engine"
    if type(client).__name__ != wanted and not (isinstance(client, sa.Engine) and not asynchronous):
        raise ConfigurationError(f"this face of locksmith takes an sqlalchemy {wanted}, not a {type(client).__name__}")
    dialect: Dialect = engine.dialect
    if dialect.name not in {"mysql", "mariadb"} or dialect.driver not in _DRIVERS[asynchronous]:
        known = ", ".join(f"mysql+{driver}" for driver in _DRIVERS[asynchronous])
        raise ConfigurationError(f"takes an engine for {known}, not for {dialect.name}+{dialect.driver}")
    if not engine.url.database:
        raise ConfigurationError("the engine's URL names no database: create_engine('mysql+pymysql://host/database')")
    return EngineServer(engine, asynchronous=asynchronous)


def _connections(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"option 'connections' is a number from 1 on, not {text!r}")
    return int(text)


def _driver(drivername: str, *, asynchronous: bool) -> str:
    known = _DRIVERS[asynchronous]
    named = drivername.partition("+")[2] or known[0]
    if named not in known:
        face = "asyncio" if asynchronous else "the blocking face"
        raise ConfigurationError(f"{drivername}:// is not supported here: {face} uses {' or '.join(known)}")
    return named


def _dialect(url: sa.URL) -> Dialect:
    try:
        kind = url.get_dialect()
        return kind(dbapi=kind.import_dbapi())  # type: ignore[call-arg]
    except ImportError as missing:
        raise DriverMissing(
            f"{url.drivername}:// needs {missing.name}, which is not installed: pip install 'locksmith[mysql]'"
        ) from missing
    except SQLAlchemyError as error:
        raise ConfigurationError(f"{url.drivername}:// is not known to SQLAlchemy: {error}") from error


def _tls(given: Mapping[str, str], driver: str) -> dict[str, Any]:
    mode = given.get("ssl", "required" if any(name in given for name in _TLS) else "")
    if mode not in {"", "required", "off"}:
        raise ConfigurationError("option 'ssl' is 'required' or 'off'")
    if mode == "off" and any(name in given for name in _TLS):
        raise ConfigurationError("ssl=off, and options for TLS as well: one of them, please")
    if mode != "required":
        return {"ssl_disabled": True} if mode == "off" and driver == "pymysql" else {}
    if given.get("ssl_key") and not given.get("ssl_cert"):
        raise ConfigurationError("ssl_key without ssl_cert: give both")
    try:
        context = ssl.create_default_context(cafile=given.get("ssl_ca"), capath=given.get("ssl_capath"))
        if "ssl_cert" in given:
            context.load_cert_chain(given["ssl_cert"], given.get("ssl_key"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"the files of the TLS options cannot be read: {error}") from error
    check = given.get("ssl_check_hostname", "true").lower()
    if check not in _YES:
        raise ConfigurationError("option 'ssl_check_hostname' is true or false")
    context.check_hostname = _YES[check]
    return {"ssl": context}


def _address(url: sa.URL) -> str:
    host = f"[{url.host}]" if url.host and ":" in url.host else url.host or "localhost"
    socket = url.query.get("unix_socket")
    place = str(socket) if socket else f"{host}:{url.port or 3306}"
    return f"mysql://{place}/{url.database}"
