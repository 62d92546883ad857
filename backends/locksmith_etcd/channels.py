"""gRPC's channels to the members of one etcd, opened when they are needed, anew in each process.

The asyncio runtime, too, uses gRPC's channels with futures, not `grpc.aio`: that one polls on a thread of which a
forked child knows nothing and without which it hangs. A `grpc.aio.Channel` of the user's is used as it is.
"""

from __future__ import annotations

import threading
from functools import partial
from operator import methodcaller
from typing import Any, Final, NamedTuple

from locksmith_etcd.forks import Cut, gate  # first: it says what gRPC reads when it is loaded

import grpc  # isort: skip
import grpc.aio  # isort: skip

from locksmith.errors import ClientClosed, ConfigurationError
from locksmith_etcd import rpc
from locksmith_etcd.url import Cluster

_OPTIONS: Final = (
    # Reconnect soon: a lease is renewed every third of its ttl.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A silent watch cannot tell a silent member from a dead one; etcd allows a ping every five seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Each client has connections of its own, so that one's end is not another's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # locksmith decides what is sent again.
    ("grpc.enable_retries", 0),
)


class Verb(NamedTuple):
    """A method of etcd's API that takes one message and answers with one."""

    path: str
    reply: Any


TXN: Final = Verb("/etcdserverpb.KV/Txn", rpc.TxnResponse)
RANGE: Final = Verb("/etcdserverpb.KV/Range", rpc.RangeResponse)
DELETE: Final = Verb("/etcdserverpb.KV/DeleteRange", rpc.DeleteRangeResponse)
GRANT: Final = Verb("/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantResponse)
REVOKE: Final = Verb("/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeResponse)
KEEPALIVE: Final = Verb("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
"""A stream in both directions, of which one message each way is enough: the server answers it and sees our end."""
AUTHENTICATE: Final = Verb("/etcdserverpb.Auth/Authenticate", rpc.AuthenticateResponse)
STATUS: Final = Verb("/etcdserverpb.Maintenance/Status", rpc.StatusResponse)
ALARM: Final = Verb("/etcdserverpb.Maintenance/Alarm", rpc.AlarmResponse)
MEMBERS: Final = Verb("/etcdserverpb.Cluster/MemberList", rpc.MemberListResponse)
_VERBS: Final = (TXN, RANGE, DELETE, GRANT, REVOKE, KEEPALIVE, AUTHENTICATE, STATUS, ALARM, MEMBERS)
_serialised: Final = methodcaller("SerializeToString")
_WATCH: Final = "/etcdserverpb.Watch/Watch"


_SILENCE: Final = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"locksmith/nothing"))


class Channel:
    """A channel to one member, and callables for the verbs, which are dear to make."""

    def __init__(self, channel: Any, *, ours: bool) -> None:
        self._channel = channel
        self._ours = ours
        self.native_async = isinstance(channel, grpc.aio.Channel)
        self.verbs = {verb: channel.unary_unary(verb.path, _serialised, verb.reply.FromString) for verb in _VERBS}
        # One request opens a watch; the server goes on answering after our end of the stream is closed. gRPC's
        # single-threaded streams would save a wake-up, but a child forked after one was used hangs (grpcio 1.85).
        self.watch = channel.unary_stream(_WATCH, _serialised, rpc.WatchResponse.FromString)
        self._silent: Any = None
        self._cut = Cut()

    def keep_listening(self, metadata: Any) -> None:
        """Have gRPC's thread that completes futures live on: it ends with the last call, and is dear to start.

        What keeps it is a watch of a key that never is. (150 us of 500 for a future, measured.)
        """
        if self._silent is None or not self._silent.is_active():
            self._silent = gate.through(partial(self.watch, _SILENCE, metadata=metadata))
            self._cut.begin(self._silent)

    def is_shut(self) -> bool:
        """Whether a channel of grpc.aio was closed."""
        return bool(self._channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN)

    def close(self) -> None:
        """Close it where it is ours."""
        self._cut.close()
        if self._ours:
            gate.through(self._channel.close)


class Channels:
    """The channels of one client, and which of them is the one to ask."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.token: str | None = None
        self.closed = False
        self._inherited = False
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Channel] = {}
        self._at = 0

    @property
    def count(self) -> int:
        """How many members there are to ask."""
        return max(1, len(self.cluster.members))

    @property
    def native_async(self) -> bool:
        """Whether the channel is the user's, of grpc.aio."""
        return isinstance(self.cluster.channel, grpc.aio.Channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each request: who we are, once we have logged in."""
        return (("token", self.token), *self.cluster.metadata) if self.token else self.cluster.metadata

    def current(self) -> Channel:
        """The channel to the member that answered last."""
        return self._open.get(self._at) or self._make(self._at)

    def elsewhere(self, failed: Channel) -> None:
        """Ask the next member from now on, unless somebody has moved on already."""
        with self._lock:
            if self._open.get(self._at) is failed:
                self._at = (self._at + 1) % self.count

    def _make(self, at: int) -> Channel:
        if self.closed:
            raise ClientClosed("this store was closed: connect again")
        if self._inherited:
            raise ConfigurationError(
                "the gRPC channel belongs to the process that forked this one: make one here, and connect again"
            )
        with self._lock:
            if at not in self._open:
                self._open[at] = gate.through(partial(self._connect, at))
            return self._open[at]

    def _connect(self, at: int) -> Channel:
        cluster = self.cluster
        if cluster.channel is not None:
            return Channel(cluster.channel, ours=False)
        _mind_gevent()
        if cluster.tls is None:
            return Channel(grpc.insecure_channel(cluster.members[at], _OPTIONS), ours=True)
        pem = cluster.tls
        credentials = grpc.ssl_channel_credentials(
            pem.get("ssl_ca_certs"), pem.get("ssl_keyfile"), pem.get("ssl_certfile")
        )
        name = (("grpc.ssl_target_name_override", cluster.server_name),) if cluster.server_name else ()
        return Channel(grpc.secure_channel(cluster.members[at], credentials, (*_OPTIONS, *name)), ours=True)

    def close(self) -> None:
        """Close what we opened."""
        self.closed = True
        with self._lock:
            channels, self._open = list(self._open.values()), {}
        for channel in channels:
            channel.close()

    def after_fork(self) -> None:
        """See Store.after_fork: what is open is the parent's, and is kept, so that nothing closes it."""
        _escrow.append(self._open)
        self._inherited = self.cluster.channel is not None
        self._fresh()


_escrow: Final[list[object]] = []
"""Channels inherited by a fork, kept for ever: collecting one would speak on the parent's connection."""


def _mind_gevent() -> None:
    """Where gevent has replaced threads, gRPC must be told, or the first call stops all greenlets."""
    import sys

    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        from grpc.experimental import gevent

        gevent.init_gevent()
