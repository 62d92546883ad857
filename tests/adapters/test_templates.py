"""Keys from templates and callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locksmith import ConfigurationError, run_once
from locksmith.adapters.keys import shorten
from locksmith.adapters.run_once import key_of
from locksmith.names import MAX_BYTES, encode


def key(template: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    return str(run_once(template)(fn).key(*args, **kwargs))  # type: ignore[attr-defined]


def process(item: Any, day: Any = "monday", *rest: Any, user: Any = None, **more: Any) -> None: ...


ITEM = SimpleNamespace(id=42, tags=["a", "b"], owner=SimpleNamespace(name="joe"))


@pytest.mark.parametrize(
    ("template", "args", "kwargs", "text"),
    [
        ("process_item:{item.id}", (ITEM,), {}, "process_item:42"),
        ("process_item:{item.id}", (), {"item": ITEM}, "process_item:42"),
        ("{0.id}", (ITEM,), {}, "42"),
        ("{0.id}", (), {"item": ITEM}, "42"),
        ('{0["id"]}', ({"id": 7},), {}, "7"),
        ("{0['id']}", ({"id": 7},), {}, "7"),
        ("{item[id]}", ({"id": 7},), {}, "7"),
        ("{item[0]}", (["x", "y"],), {}, "x"),
        ("{item[-1]}", (["x", "y"],), {}, "y"),
        ('{item["0"]}', ({"0": "text", 0: "number"},), {}, "text"),
        ("{item[0]}", ({"0": "text", 0: "number"},), {}, "number"),
        ("{item.owner.name}/{item.tags[1]}", (ITEM,), {}, "joe/b"),
        ("{day}", (1,), {}, "monday"),
        ("{1}", (1,), {}, "monday"),
        ("{day}", (1, "friday"), {}, "friday"),
        ("{2}", (1, 2, "rest"), {}, "rest"),
        ("{rest[0]}", (1, 2, "rest"), {}, "rest"),
        ("{user}", (1,), {}, "None"),
        ("{tenant}", (1,), {"tenant": "acme"}, "acme"),
        ("{more[tenant]}", (1,), {"tenant": "acme"}, "acme"),
        ("{day:%Y-%m}", (1, date(2024, 2, 29)), {}, "2024-02"),
        ("{item!r}", ("a",), {}, "'a'"),
        ("{item:04}", (7,), {}, "0007"),
        ("{{literal}} {item}", (1,), {}, "{literal} 1"),
        ("nightly report", (object(),), {}, "nightly report"),
        ("{item}", (UUID(int=1),), {}, "00000000-0000-0000-0000-000000000001"),
        ("{item}", ([1, "a"],), {}, '[i1,"a"]'),
        ("{item}", ({"b": 1, "a": 2},), {}, '{"a":i2,"b":i1}'),
    ],
)
def test_fields(template: str, args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    assert key(template, process, *args, **kwargs) == text


def two(a: Any, b: Any) -> None: ...


def test_values_are_delimited() -> None:
    assert key("{a}:{b}", two, "a:b", "c") != key("{a}:{b}", two, "a", "b:c")
    assert key("{a}{b}", two, "ab", "c") != key("{a}{b}", two, "a", "bc")
    assert key("{a}-{b}", two, "", "-x") != key("{a}-{b}", two, "-", "x")


def test_simple_values_stay_readable() -> None:
    assert key("report:{a}:{b}", two, "2024-01-01", "joe@example.org") == "report:2024-01-01:joe@example.org"
    assert key("fetch:{a}", two, "http://example.org/?x=1", 0) == "fetch:http://example.org/?x=1"


values = st.one_of(st.text(), st.text(alphabet='ab:-"\\', max_size=6))


@pytest.mark.parametrize("template", ["{a}:{b}", "{a}{b}", "x{a}-:{b}y", '{a}"{b}', "{a}\\{b}", "{b}a{a}", "p:{a}/{b}"])
@given(st.tuples(values, values), st.tuples(values, values))
def test_other_values_other_text(template: str, one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (key(template, two, *one) == key(template, two, *other)) == (one == other)


@given(values, values)
def test_one_field_other_value_other_text(one: str, other: str) -> None:
    assert (key("x:{a}", two, one, 0) == key("x:{a}", two, other, 0)) == (one == other)


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{itme.id}", "names no argument of .*process1; it has item, day"),
        ("{2}", "names no argument"),
        ("{}", "cannot read"),
        ("{item.}", "cannot read"),
        ("{item[}", "cannot be read"),
        ("{item", "cannot be read"),
        ("{item:{day}}", "cannot read"),
        ("{item!x}", "cannot"),
        ("", "at least one character"),
    ],
)
def test_a_template_that_cannot_work_fails_when_decorating(template: str, complaint: str) -> None:
    def process1(item: Any, day: str = "") -> None: ...

    with pytest.raises(ConfigurationError, match=complaint):
        run_once(template)(process1)


def test_what_the_arguments_do_not_have_fails_at_the_call() -> None:
    wrong: list[tuple[str, object]] = [
        ("{item.id}", 1), ("{item[5]}", []), ("{item[id]}", {}), ("{tenant}", 1), ("{5}", 1)
    ]  # fmt: skip
    for template, item in wrong:
        with pytest.raises(ConfigurationError, match="does not fit this call"):
            key(template, process, item)


class Faceless: ...


@pytest.mark.parametrize("value", [Faceless(), SimpleNamespace(a=Faceless()), lambda: 1, [Faceless()]])
def test_an_address_is_no_key(value: object) -> None:
    with pytest.raises(ConfigurationError):
        key("{item}", process, value)
    with pytest.raises(ConfigurationError):
        key("{item!r}", process, value)


def test_own_classes_by_their_text_or_their_key() -> None:
    class User:
        def __str__(self) -> str:
            return "joe"

    @dataclass
    class Order:
        id: int

    assert key("{item}", process, User()) == "joe"
    assert key("{item}", process, Order(1)) == key("{item}", process, Order(1)) != key("{item}", process, Order(2))


def test_key_as_template_or_callable() -> None:
    by_text: Any = run_once(key="x:{item}")(process)
    by_call: Any = run_once(key=lambda item, *args, **kwargs: f"x:{item}:{kwargs.get('user')}")(process)
    assert by_text.key(1) == "x:1"
    assert by_call.key(1, user=2) == "x:1:2"
    assert key_of(by_call, 1, user=2) == "x:1:2"
    with pytest.raises(ConfigurationError, match="not decorated"):
        key_of(process, 1)


@pytest.mark.parametrize("returned", [None, 1, b"x", ""])
def test_a_callable_must_return_text(returned: Any) -> None:
    fn: Any = run_once(key=lambda *args: returned)(process)
    with pytest.raises(ConfigurationError, match="must return text"):
        fn.key(1)


def test_only_one_way_to_say_what_the_key_is() -> None:
    for settings in [{"key": "x"}, {"unique_on": ["item"]}]:
        with pytest.raises(ConfigurationError, match="exclude each other"):
            run_once("x:{item}", **settings)(process)  # type: ignore[call-overload]


def test_very_long_keys_are_names_too() -> None:
    long, longer = key("x:{item}", process, "ä" * 5000), key("x:{item}", process, "ä" * 5001)
    assert long != longer
    assert long.startswith("x:äää")
    encode(long)


@given(st.text(min_size=1, max_size=50), st.integers(1, 200), st.text(min_size=1, max_size=50), st.integers(1, 200))
def test_shortening_is_one_to_one(one: str, times: int, other: str, again: int) -> None:
    first, second = one * times, other * again
    assert (shorten(first) == shorten(second)) == (first == second)
    assert len(shorten(first).encode("utf-8", "surrogatepass")) <= MAX_BYTES


def test_nobody_can_choose_a_short_key_that_meets_a_long_one() -> None:
    long = shorten("x" * 5000)
    assert shorten(long) != long


def test_on_methods_position_0_is_the_instance() -> None:
    class Account:
        id = 7

        @run_once("{self.id}:{0.id}:{x}")
        def work(self, x: int) -> None: ...

    assert Account.work.key(Account(), 3) == "7:7:3"  # type: ignore[attr-defined]
