# ruff: noqa: DTZ001 - naive times are values too
"""Canonical forms: one text per value, in every process, and another one for another value."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locksmith.adapters.canonical import NoCanonicalForm, canonical
from locksmith.errors import ConfigurationError


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    ONE = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped one is what users pass
Size = namedtuple("Size", "x y")  # noqa: PYI024


@dataclass
class Item:
    id: int
    cache: Any = field(default=None, compare=False)


@dataclass
class Other:
    id: int


class Text(str):
    __slots__ = ()


DIFFERENT = [
    None, True, False, 0, 1, -1, 10**18, 10**30, 1.0, -1.0, 0.5, math.inf, -math.inf, math.nan,
    "", "1", "None", "n", "T", "i1", "[i1]", "a,b", 'a"', b"", b"1", b"a",
    Decimal(2), Decimal("0.1"), Decimal("NaN"), Decimal("-Infinity"),
    datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 1), time(1, 2), time(1, 2, tzinfo=UTC),
    timedelta(days=1), timedelta(seconds=1), UUID(int=1), Colour.RED, Colour.GREEN, Level.ONE, Rights.READ,
    Rights.READ | Rights.WRITE, Rights(0), Path("a"), Path("/a"), (), (1,), (1, 2), (2, 1), ((1,), 2), (1, (2,)),
    ["a,b"], ["a", "b"], {}, {1: 2}, {"1": 2}, {1: "2"}, {"a": {"b": 1}}, set(), {1}, {"1"}, {(1, 2)},
    Point(1, 2), Size(1, 2), Item(1), Item(2), Other(1), int, str, Colour,
]  # fmt: skip

SAME: list[tuple[Any, Any]] = [
    ((1, 2), [1, 2]),  # a queue that speaks JSON turns one into the other
    ({1, 2, 3}, frozenset({3, 2, 1})),
    ({"a": 1, "b": 2}, OrderedDict([("b", 2), ("a", 1)])),
    (Decimal("1.0"), Decimal("1.00")),
    (Decimal(100), Decimal("1E2")),
    (Decimal(0), Decimal("-0.00")),
    (datetime(2024, 1, 1, 12, tzinfo=UTC), datetime(2024, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))),
    (b"a", bytearray(b"a")),
    (Path("a/b"), PurePosixPath("a/b")),
    ("a", Text("a")),
    (Item(1, cache="x"), Item(1, cache="y")),
    ({1: "a", "b": 2, None: 3}, {None: 3, "b": 2, 1: "a"}),
]


@pytest.mark.parametrize("value", DIFFERENT, ids=repr)
def test_a_value_has_one_form(value: object) -> None:
    assert canonical(value) == canonical(value)


def test_different_values_have_different_forms() -> None:
    forms = [canonical(value) for value in DIFFERENT]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_is_the_same_has_one_form(one: object, other: object) -> None:
    assert canonical(one) == canonical(other)


def test_a_lone_surrogate_and_the_end_of_time_have_forms() -> None:
    canonical("caf\udce9").encode("ascii")
    canonical(datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))))


def test_integers_beyond_what_python_prints() -> None:
    assert canonical(10**5000) != canonical(10**5000 + 1)


def test_own_classes_may_say_what_they_are() -> None:
    class User:
        def __init__(self, number: int) -> None:
            self.id = number

        def __locksmith_key__(self) -> object:
            return self.id

    assert canonical(User(1)) == canonical(User(1)) != canonical(User(2))
    assert canonical(User(1)) != canonical(1)


def test_what_has_no_form_is_refused_by_name() -> None:
    class Thing: ...

    with pytest.raises(NoCanonicalForm, match="Thing"):
        canonical({"a": [Thing()]})
    with pytest.raises(ConfigurationError):
        canonical(lambda: 1)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NoCanonicalForm):
        canonical(loop)


# Injectivity: values that Python and our rules call different have different forms.

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4), st.binary(max_size=4),
    st.dates(),
)  # fmt: skip
hashable: st.SearchStrategy[Any] = scalars | st.tuples(scalars, scalars) | st.frozensets(scalars, max_size=2)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(hashable, inner, max_size=3) | st.frozensets(hashable, max_size=3)
    ),
    max_leaves=6,
)


def tagged(value: Any) -> Any:
    """An independent model of sameness: plain data whose == is what the forms promise."""
    if isinstance(value, list | tuple):
        return ("sequence", tuple(tagged(member) for member in value))
    if isinstance(value, frozenset):
        return ("set", frozenset(tagged(member) for member in value))
    if isinstance(value, dict):
        return ("map", frozenset((tagged(key), tagged(member)) for key, member in value.items()))
    return (type(value).__name__, repr(value))


@given(values, values)
def test_forms_are_equal_exactly_when_values_are(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (tagged(one) == tagged(other))


tricky = st.lists(st.text(alphabet='a,:"[]{}<>\\ns1', max_size=8), max_size=4)


@given(tricky, tricky)
def test_no_text_can_imitate_structure(one: list[str], other: list[str]) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_a_dict_does_not_count(value: dict[str, int]) -> None:
    assert canonical(value) == canonical(dict(reversed(value.items())))


GOLDEN: list[tuple[Callable[[], object], str]] = [
    (lambda: None, "n"),
    (lambda: True, "T"),
    (lambda: 42, "i42"),
    (lambda: 10**18, "i0xde0b6b3a7640000"),
    (lambda: 1.0, "f1.0"),
    (lambda: 'ä"', '"\\u00e4\\""'),
    (lambda: b"\x00\xff", "b00ff"),
    (lambda: Decimal("-1.50"), "d-15e-1"),
    (lambda: datetime(2024, 2, 29, 12, 0, tzinfo=UTC), "t2024-02-29T12:00:00Z"),
    (lambda: datetime(2024, 2, 29, 12, 0), "t2024-02-29T12:00:00"),
    (lambda: date(2024, 2, 29), "a2024-02-29"),
    (lambda: time(1, 2, 3), "o01:02:03"),
    (lambda: timedelta(days=1, seconds=2), "l1/2/0"),
    (lambda: UUID(int=5), "u00000000000000000000000000000005"),
    (lambda: Path("/tmp/x"), 'p"/tmp/x"'),
    (lambda: (1, [2, "b"]), '[i1,[i2,"b"]]'),
    (lambda: {2: "b", "a": None}, '{"a":n,i2:"b"}'),
    (lambda: {3, 1}, "<i1,i3>"),
    (lambda: int, 'c"builtins.int"'),
]


@pytest.mark.parametrize(("make", "form"), GOLDEN)
def test_golden_forms(make: Callable[[], object], form: str) -> None:
    """Changing one of these changes names under which running programs exclude each other: raise digest.VERSION."""
    assert canonical(make()) == form
