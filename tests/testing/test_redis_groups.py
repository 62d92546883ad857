"""The throwaway Redis topologies: they form, fail over, and leave nothing behind."""

from __future__ import annotations

import pytest

from locksmith.testing.servers import RedisCluster, RedisNodes, RedisSentinels, ServerFailed

pytestmark = pytest.mark.redis


def test_nodes_do_not_know_each_other() -> None:
    with RedisNodes(password="secret") as group:
        group.nodes[0].command("SET", "a", "1")
        assert [node.command("GET", "a") for node in group.nodes] == ["1", None, None]
        with pytest.raises(ServerFailed):
            group.start()
        assert group.url.count("127.0.0.1") == 3
    assert not any(node.running for node in group.nodes)


def test_sentinels_fail_over_and_take_the_old_primary_back() -> None:
    with RedisSentinels(password="data", sentinel_password="watch") as group:
        old = group.primary
        old.command("SET", "a", "1")
        assert old.command("WAIT", 1, 5000) == 1
        new = group.fail_over()
        assert new is not old
        assert new.command("GET", "a") == "1"
        group.mend()
        # On a busy machine they may have changed places again; there is one of each all the same.
        assert {group.primary, *group.replicas} == {old, new}
        assert len(group.replicas) == 1
        folders = [server.folder for server in (*group.servers, *group.sentinels)]
    assert not any(folder.exists() for folder in folders)


def test_a_cluster_promotes_a_replica() -> None:
    with RedisCluster(replicas=1) as group:
        owners = {group.owner(slot) for slot in (0, 8000, 16383)}
        assert owners == set(group.primaries)
        old = group.owner(0)
        old.kill()
        group._until("a promotion", lambda: group.owner(0) is not old)
        group.await_complete()
        assert group.owner(0) in group.replicas


def test_a_clusters_slots_can_move() -> None:
    with RedisCluster() as group:
        target = group.owner(16383)
        group.move_slot(0, target)
        assert group.owner(0) is target
        group.await_complete()
