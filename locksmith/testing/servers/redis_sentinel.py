"""A throwaway Redis primary with replicas and the sentinels that watch it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from locksmith.testing.servers.redis import RedisServer
from locksmith.testing.servers.redis_group import RedisGroup
from locksmith.testing.servers.resp import Reply


class RedisReplica(RedisServer):
    """A replica of a running RedisServer."""

    def __init__(self, primary: RedisServer, *, password: str | None = None, tls: bool = False) -> None:
        config = {"replicaof": f"{primary.host} {primary.port}", "repl-diskless-sync-delay": "0"}
        super().__init__(password=password, tls=tls, config=config | _masterauth(password))

    @property
    def in_sync(self) -> bool:
        """Whether it has everything its primary had when it joined."""
        return "master_link_status:up" in str(self.command("INFO", "replication")).split()


class RedisSentinel(RedisServer):
    """A sentinel. It writes what it learns into its configuration, which therefore outlives a restart."""

    def __init__(
        self, primary: RedisServer, name: str, *, quorum: int, down_after: float, password: str | None = None
    ) -> None:
        super().__init__(password=password, tls=primary.tls)
        self._watched = primary
        self._name = name
        self._quorum = quorum
        self._down_after = down_after

    def _command(self, executable: Path) -> Sequence[str]:
        path = self.folder / "redis.conf"
        if not path.exists() or f"port {self.port}\n" not in path.read_text("utf-8"):
            super()._command(executable)
        return [str(executable), str(path), "--sentinel"]

    def _lines(self) -> Iterator[str]:
        name, primary = self._name, self._watched
        yield from (f"bind {self.host}", "protected-mode no", f'dir "{self.folder}"')
        yield f"port {0 if self.tls else self.port}"
        if self.tls:
            yield from (f"{setting} {value}" for setting, value in self._tls_settings().items())
        if self.password is not None:
            yield f"requirepass {self.password}"
        yield f"sentinel monitor {name} {primary.host} {primary.port} {self._quorum}"
        yield f"sentinel down-after-milliseconds {name} {round(self._down_after * 1000)}"
        yield f"sentinel failover-timeout {name} 3000"
        if primary.password is not None:
            yield f"sentinel auth-pass {name} {primary.password}"


class RedisSentinels(RedisGroup):
    """A primary, its replicas, and three sentinels that fail over within seconds.

    Args:
        replicas: how many replicas the primary has.
        down_after: seconds of silence after which a sentinel takes the primary for dead.
        password: what primary and replicas ask for; `sentinel_password`: what the sentinels ask for.
    """

    name = "tower"

    def __init__(
        self,
        replicas: int = 1,
        *,
        down_after: float = 1.0,
        password: str | None = None,
        sentinel_password: str | None = None,
        tls: bool = False,
    ) -> None:
        super().__init__(tls=tls)
        self.password = password
        self.sentinel_password = sentinel_password
        self._replicas = replicas
        self._down_after = down_after
        self.servers: list[RedisServer] = []
        self.sentinels: list[RedisSentinel] = []

    def _start(self) -> None:
        config = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
        first = RedisServer(password=self.password, tls=self.tls, config=config | _masterauth(self.password))
        self.servers.append(self._run(first))
        for _ in range(self._replicas):
            self.servers.append(self._run(RedisReplica(first, password=self.password, tls=self.tls)))
        for _ in range(3):
            sentinel = RedisSentinel(
                first, self.name, quorum=2, down_after=self._down_after, password=self.sentinel_password
            )
            self._run(sentinel)
            self.sentinels.append(sentinel)
        self._until("replicas and sentinels finding each other", self._settled)

    @property
    def url(self) -> str:
        """The `redis+sentinel://` URL of this."""
        return self.url_for()

    def url_for(self, **options: str | float) -> str:
        """The same with further options, such as `wait_replicas=1`."""
        if self.sentinel_password:
            options = {"sentinel_password": self.sentinel_password, **options}
        return self._url("sentinel", self.sentinels, self.password, f"/{self.name}", **options)

    @property
    def primary(self) -> RedisServer:
        """The server that the sentinels call the primary now."""
        port = int(str(_items(self._ask("GET-MASTER-ADDR-BY-NAME", self.name))[1]))
        return next(server for server in self.servers if server.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        """The others, whether they run or not."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def fail_over(self) -> RedisServer:
        """SIGKILL the primary, and return the server that has taken its place."""
        old = self.primary
        old.kill()
        self._until("a fail-over", lambda: self.primary is not old and _role(self.primary) == "master")
        return self.primary

    def await_new_primary(self, old: RedisServer) -> RedisServer:
        """The server that takes the place of one that was killed or paused before."""
        self._until("a fail-over", lambda: self.primary is not old and _role(self.primary) == "master")
        return self.primary

    def mend(self) -> None:
        """Start what was killed, as replicas of the primary, and return when all is as it was."""
        primary = self.primary
        for server in self.servers:
            if not server.running:
                server.start()
            if server is not primary:
                server.command("REPLICAOF", primary.host, primary.port)
        self._until("replicas and sentinels finding each other", self._settled)

    def _ask(self, *words: str) -> Reply:
        alive = next(sentinel for sentinel in self.sentinels if sentinel.running)
        return alive.command("SENTINEL", *words)

    def _settled(self) -> bool:
        primary = self.primary
        online = str(primary.command("INFO", "replication")).count("state=online") == self._replicas
        return _role(primary) == "master" and online and all(self._knows_all(sentinel) for sentinel in self.sentinels)

    def _knows_all(self, sentinel: RedisSentinel) -> bool:
        seen = _pairs(sentinel.command("SENTINEL", "MASTER", self.name))
        others = [_pairs(reply) for reply in _items(sentinel.command("SENTINEL", "SENTINELS", self.name))]
        replicas = [_pairs(reply) for reply in _items(sentinel.command("SENTINEL", "REPLICAS", self.name))]
        return (
            seen["flags"] == "master"
            and sum(other["flags"] == "sentinel" for other in others) == len(self.sentinels) - 1
            and sum(replica["flags"] == "slave" for replica in replicas) == self._replicas
            and all(replica["master-link-status"] == "ok" for replica in replicas)
        )


def _masterauth(password: str | None) -> dict[str, str]:
    return {} if password is None else {"masterauth": f'"{password}"'}


def _role(server: RedisServer) -> str:
    return str(_items(server.command("ROLE"))[0])


def _items(reply: Reply) -> list[Reply]:
    assert isinstance(reply, list), reply
    return reply


def _pairs(reply: Reply) -> dict[str, str]:
    items = [str(item) for item in _items(reply)]
    return dict(zip(items[::2], items[1::2], strict=True))
