"""A throwaway Redis Cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from locksmith.testing.servers.ports import Port
from locksmith.testing.servers.redis import RedisServer
from locksmith.testing.servers.redis_group import RedisGroup

SLOTS: Final = 16_384


class RedisClusterNode(RedisServer):
    """A node of a cluster that does not exist yet. Its bus has a port of its own: the usual one may be taken."""

    def __init__(self, *, node_timeout: float, password: str | None = None, tls: bool = False) -> None:
        config = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": str(round(node_timeout * 1000)),
            "repl-diskless-sync-delay": "0",
        }
        if tls:
            config["tls-cluster"] = "yes"
        if password is not None:
            config["masterauth"] = f'"{password}"'
        super().__init__(password=password, tls=tls, config=config)
        self._bus: Port | None = None

    @property
    def bus(self) -> int:
        """The port on which nodes talk to each other."""
        if self._bus is None:
            self._bus = Port()
        return self._bus.number

    @property
    def id(self) -> str:
        """What the cluster calls it."""
        return str(self.command("CLUSTER", "MYID"))

    def _command(self, executable: Path) -> list[str]:
        self._config["cluster-port"] = str(self.bus)
        return list(super()._command(executable))

    def close(self) -> None:
        """See Server.close."""
        super().close()
        if self._bus is not None:
            self._bus.close()
            self._bus = None


class RedisCluster(RedisGroup):
    """Three primaries that share the hash slots, with `replicas` replicas each, and short time limits."""

    def __init__(
        self, replicas: int = 0, *, node_timeout: float = 1.0, password: str | None = None, tls: bool = False
    ) -> None:
        super().__init__(tls=tls)
        self.password = password
        made = [
            RedisClusterNode(node_timeout=node_timeout, password=password, tls=tls) for _ in range(3 + 3 * replicas)
        ]
        self.primaries, self.replicas = made[:3], made[3:]

    @property
    def nodes(self) -> list[RedisClusterNode]:
        """All of them; the first three were the primaries at the start."""
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        """The `redis+cluster://` URL of the primaries."""
        return self._url("cluster", self.primaries, self.password, "")

    def owner(self, slot: int) -> RedisClusterNode:
        """The primary that serves this slot now, as far as any running node knows."""
        alive = next(node for node in self.nodes if node.running)
        reply = alive.command("CLUSTER", "SLOTS")
        assert isinstance(reply, list)
        for shard in reply:
            assert isinstance(shard, list)
            first, last, primary = shard[:3]
            assert isinstance(first, int)
            assert isinstance(last, int)
            assert isinstance(primary, list)
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == primary[1])
        raise LookupError(f"nobody serves slot {slot}")

    def await_complete(self) -> None:
        """Return when every running node says that every slot is served."""
        self._until("the cluster being complete", lambda: all(_complete(node) for node in self.nodes if node.running))

    def move_slot(self, slot: int, target: RedisClusterNode) -> None:
        """Move an empty slot, or one whose keys were moved before, to another primary."""
        for node in self.primaries:
            node.command("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def _start(self) -> None:
        for node in self.nodes:
            self._run(node)
        first = self.primaries[0]
        for number, node in enumerate(self.nodes, 1):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number)
        for number, node in enumerate(self.primaries):
            share = range(number * SLOTS // 3, (number + 1) * SLOTS // 3)
            node.command("CLUSTER", "ADDSLOTS", *share)
        for node in self.nodes[1:]:
            node.command("CLUSTER", "MEET", first.host, first.port, first.bus)
        self._until("the nodes meeting", lambda: all(_knows(node, len(self.nodes)) for node in self.nodes))
        for number, replica in enumerate(self.replicas):
            replica.command("CLUSTER", "REPLICATE", self.primaries[number % 3].id)
        self.await_complete()
        self._until("the replicas following", lambda: all(_follows(replica) for replica in self.replicas))


def _knows(node: RedisServer, count: int) -> bool:
    return f"cluster_known_nodes:{count}" in str(node.command("CLUSTER", "INFO")).split()


def _complete(node: RedisServer) -> bool:
    said = str(node.command("CLUSTER", "INFO")).split()
    return "cluster_state:ok" in said and f"cluster_slots_ok:{SLOTS}" in said


def _follows(node: RedisServer) -> bool:
    return "master_link_status:up" in str(node.command("INFO", "replication")).split()
