"""Claims as nodes in order: who is granted follows from the nodes alone, and never turns back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locksmith import names, nodes
from locksmith.errors import SettingsConflict, StoreProtocolError
from locksmith.nodes import Node
from locksmith.store import Claim


def node(order: int, permits: int = 1, limit: int = 1) -> Node:
    return Node(order, order, "n", f"o{order}", permits, limit, 10.0, 0.0, "{}")


def claim(name: str = "n", limit: int = 1, info: str = "{}") -> Claim:
    return Claim(name, names.encode(name), "o" * 32, 10.0, 1, limit, 5.0, 0.0, info)


@pytest.mark.parametrize(
    ("permits", "limit", "granted"),
    [([], 1, 0), ([1], 1, 1), ([1, 1], 1, 1), ([1, 1, 1], 2, 2), ([3, 1], 3, 1), ([1, 3, 1], 3, 1), ([2, 1, 1], 3, 2)],
)
def test_the_first_ones_that_fit_are_granted(permits: list[int], limit: int, granted: int) -> None:
    line = [node(at, wanted, limit) for at, wanted in enumerate(permits, 1)]
    assert nodes.granted(line) == granted


@given(st.lists(st.integers(1, 4), max_size=12), st.data())
def test_what_was_granted_stays_granted(permits: list[int], data: st.DataObject) -> None:
    """P1 and P6 for stores by sessions: whoever leaves, and however many, nobody loses what is held, nor the order."""
    line = [node(at, wanted, 4) for at, wanted in enumerate(permits, 1)]
    had = {one.owner for one in line[: nodes.granted(line)]}
    gone = data.draw(st.sets(st.sampled_from(line)) if line else st.just(set()))
    left = [one for one in line if one not in gone]
    have = {one.owner for one in left[: nodes.granted(left)]}
    assert had - {one.owner for one in gone} <= have
    assert sum(one.permits for one in left if one.owner in have) <= 4


@pytest.mark.parametrize("name", ["n", "ä/b c", "\ud800 lone", 'quo"te\\', "x" * 1024])
def test_a_claim_can_be_read_back(name: str) -> None:
    raw = nodes.value(claim(name, info='{"note": "ü"}'), 12.5, 1000.25)
    back = Node.read(raw, order=7, token=9)
    assert back == Node(7, 9, name, "o" * 32, 1, 1, 12.5, 1000.25, '{"note": "ü"}')


@pytest.mark.parametrize("raw", [b"", b"\xff", b"1", b"[]", b"{}", b'{"name":"n"}', b'"text"'])
def test_what_others_wrote_is_not_read(raw: bytes) -> None:
    with pytest.raises(StoreProtocolError, match="not written by locksmith"):
        Node.read(raw, order=1, token=1)


def test_another_limit_is_a_conflict_and_the_same_is_none() -> None:
    nodes.check_limit(claim(limit=3), [node(1, limit=3)])
    with pytest.raises(SettingsConflict, match="limit of 3, not 2"):
        nodes.check_limit(claim(limit=2), [node(1, limit=3)])


def test_an_inspection_shows_the_granted_and_the_others() -> None:
    line = [node(4, 1, 2), node(6, 1, 2), node(9, 1, 2)]
    found = nodes.inspection("n", line, 5.0)
    assert ([h.owner for h in found.holders], [w.owner for w in found.waiters]) == (["o4", "o6"], ["o9"])
    assert (found.limit, found.token, found.holders[0].since) == (2, 6, 5.0)
    assert nodes.inspection("n", [], 5.0).limit is None
