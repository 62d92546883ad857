"""Throwaway real servers for tests: on a free loopback port, with their data in a temporary folder.

    with RedisServer(appendonly=True) as server:
        client = locksmith.connect(server.url)
        server.kill()       # SIGKILL
        server.start()      # the same port and the same data
        server.pause()      # SIGSTOP
        server.resume()

A server dies with the process that started it, also where that one is killed. A missing program is `ServerMissing`,
with the line that installs it; `python -m locksmith.testing.servers install redis` runs that line where it may.
No driver is imported here: a server is ready when it answers on a raw socket.
"""

from __future__ import annotations

from locksmith.testing.servers.base import Server, ServerFailed
from locksmith.testing.servers.certificates import Certificates, make_certificates
from locksmith.testing.servers.consul import ConsulEnsemble, ConsulServer
from locksmith.testing.servers.etcd import EtcdEnsemble, EtcdServer, EtcdUser
from locksmith.testing.servers.mariadb import MariaDBServer
from locksmith.testing.servers.postgresql import PgBouncer, PostgreSQLServer
from locksmith.testing.servers.programs import Program, ServerMissing, find, in_ci, install
from locksmith.testing.servers.rabbitmq import RabbitMQServer
from locksmith.testing.servers.redis import RedisServer
from locksmith.testing.servers.redis_cluster import RedisCluster, RedisClusterNode
from locksmith.testing.servers.redis_group import RedisNodes
from locksmith.testing.servers.redis_sentinel import RedisReplica, RedisSentinel, RedisSentinels
from locksmith.testing.servers.resp import RedisReplyError
from locksmith.testing.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperMember, ZooKeeperServer

__all__ = [
    "Certificates",
    "ConsulEnsemble",
    "ConsulServer",
    "EtcdEnsemble",
    "EtcdServer",
    "EtcdUser",
    "MariaDBServer",
    "PgBouncer",
    "PostgreSQLServer",
    "Program",
    "RabbitMQServer",
    "RedisCluster",
    "RedisClusterNode",
    "RedisNodes",
    "RedisReplica",
    "RedisReplyError",
    "RedisSentinel",
    "RedisSentinels",
    "RedisServer",
    "Server",
    "ServerFailed",
    "ServerMissing",
    "ZooKeeperEnsemble",
    "ZooKeeperMember",
    "ZooKeeperServer",
    "find",
    "in_ci",
    "install",
    "make_certificates",
]
