"""run_once on methods, and on other things that can be called."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest

from locksmith import SKIPPED, ConfigurationError, run_once


class Account:
    runs: list[Any]

    def __init__(self, number: int) -> None:
        self.number = number
        self.runs = []

    @run_once("{self.number}:{x}", store="memory://methods")
    def method(self, x: int) -> object:
        self.runs.append(x)
        return self.method(x) if len(self.runs) == 1 else x

    @classmethod
    @run_once("class:{cls.__name__}:{x}", store="memory://methods")
    def below(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @run_once("above:{cls.__name__}:{x}", store="memory://methods")
    @classmethod
    def above(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @staticmethod
    @run_once("static:{x}", store="memory://methods")
    def static(x: int) -> int:
        return x

    @run_once("static-above:{x}", store="memory://methods")
    @staticmethod
    def static_above(x: int) -> int:
        return x

    @property
    @run_once("property:{self.number}", store="memory://methods")
    def size(self) -> int:
        return self.number


class Sub(Account): ...


def test_methods() -> None:
    account = Account(7)
    assert account.method(3) is SKIPPED
    assert account.runs == [3]
    assert Account.method(Account(8), 4) is SKIPPED
    assert Account.below(1) == Account.above(1) == ("Account", 1)
    assert Sub.below(1) == Sub(1).above(1) == ("Sub", 1)
    assert Account.static(2) == Account(1).static(2) == Account.static_above(2) == Account(1).static_above(2) == 2
    assert account.size == 7
    assert inspect.ismethod(account.method)


@pytest.mark.parametrize("thing", [Account, 42, property(lambda self: 1)])
def test_what_is_no_function_is_refused(thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="decorates functions"):
        run_once("x")(thing)


def test_callable_objects_and_partials_with_a_key(store: str) -> None:
    class Adder:
        def __call__(self, a: int) -> int:
            return a + 1

    assert run_once("adder", store=store)(Adder())(1) == 2

    def add(a: int, b: int) -> int:
        return a + b

    assert run_once("partial:{b}", store=store)(functools.partial(add, 1))(2) == 3
