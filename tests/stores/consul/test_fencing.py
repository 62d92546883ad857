"""Checks in transactions of somebody else's: they pass while the lease is held, and not a moment longer."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import consul
import pytest
from consul.exceptions import ConsulException

import locksmith
from locksmith import Fence
from locksmith.errors import ConfigurationError, LeaseLost
from locksmith.testing.contract.faces import FACES, Face
from locksmith.testing.servers import ConsulServer
from locksmith_consul.fencing import checks

pytestmark = pytest.mark.consul


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    return FACES[request.param]()


def commit(server: ConsulServer, guards: list[dict[str, Any]], key: str) -> bool:
    """A transaction by py-consul, which raises where it was rolled back."""
    host, port = server.address
    client = consul.Consul(host=host, port=port)
    value = b64encode(b"written").decode("ascii")
    try:
        said = client.txn.put([*guards, {"KV": {"Verb": "set", "Key": key, "Value": value}}])
    except ConsulException as refused:
        if "409" not in str(refused):
            raise
        return False
    finally:
        client.http.session.close()
    return bool(said["Results"])


def test_it_passes_while_the_lease_is_held(face: Face, consul_server: ConsulServer, namespace: str) -> None:
    async def body() -> None:
        client = face.connect(consul_server.url, namespace=namespace)
        lease = await client.lock("imp/ört").acquire(wait=20)
        guards = checks(lease)
        assert json.loads(json.dumps(guards)) == guards
        assert commit(consul_server, guards, f"{namespace}/work")
        assert commit(consul_server, guards, f"{namespace}/work"), "and again"
        await client.evict("imp/ört", lease.token)
        assert not commit(consul_server, guards, f"{namespace}/work"), "nobody holds it"
        successor = await client.lock("imp/ört").acquire(wait=20)
        assert not commit(consul_server, guards, f"{namespace}/work"), "somebody else holds it"
        assert commit(consul_server, checks(successor), f"{namespace}/work")
        await successor.release()
        with pytest.raises(LeaseLost):
            checks(successor)
        await client.close()

    face.run(body())


def test_leases_of_others_are_refused() -> None:
    with locksmith.connect("memory://") as client, client.lock("a").acquire() as lease:
        with pytest.raises(ConfigurationError, match="not from Consul"):
            checks(lease)
        fence: Any = Fence.of(lease)
        with pytest.raises(ConfigurationError, match="pass the lease itself"):
            checks(fence)
