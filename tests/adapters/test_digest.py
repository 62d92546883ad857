"""The default key: all arguments, or the chosen ones."""

from __future__ import annotations

import inspect
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locksmith import ConfigurationError, run_once
from locksmith.adapters import keys


def key(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    return str(fn.key(*args, **kwargs))  # type: ignore[attr-defined]


@run_once
def job(a: object, b: object = 2, *rest: object, c: object = None, **more: object) -> None: ...


def test_positional_equals_keyword() -> None:
    assert key(job, 1, 2, c=3) == key(job, a=1, b=2, c=3) == key(job, 1, b=2, c=3)


def test_an_argument_equal_to_its_default_is_left_out() -> None:
    assert key(job, 1) == key(job, 1, 2) == key(job, 1, b=2, c=None)
    assert key(job, 1) != key(job, 1, 3)


def test_equal_to_the_default_means_the_same_value_and_type() -> None:
    assert key(job, 1) != key(job, 1, 2.0)
    assert len({key(job, 1), key(job, 1.0), key(job, "1"), key(job, True)}) == 4


def test_equal_to_the_default_need_not_be_the_same_object() -> None:
    @run_once
    def f(a: int, tags: object = ("x", "y"), name: str = "a name", size: int = 10**20, rate: float = 0.5) -> None: ...

    apart: dict[str, Any] = {"tags": list("xy"), "name": " ".join(["a", "name"]), "size": 10**19 * 10, "rate": 1 / 2}
    assert key(f, 1, **apart) == key(f, 1)
    assert len({key(f, 1, **{name: value, "rate": 2.5}) for name, value in apart.items()}) == 1


def test_what_the_rest_is_called_does_not_count() -> None:
    def one(*args: int, **kwargs: int) -> None: ...

    def two(*rest: int, **more: int) -> None: ...

    one.__qualname__ = two.__qualname__ = "same"
    assert key(run_once(one), 1, 2, x=3) == key(run_once(two), 1, 2, x=3) != key(run_once(one), 2, 1, x=3)


def test_a_new_defaulted_parameter_survives_a_rolling_deploy() -> None:
    def old(account: int) -> None: ...

    def new(account: int, dry_run: bool = False, *rest: object, limit: int | None = None, **kw: object) -> None: ...

    # The same function in the two versions of a program.
    old.__qualname__ = new.__qualname__ = "sync"
    before: Any = run_once(old)
    after: Any = run_once(new)
    assert before.key(7) == after.key(7) == after.key(account=7, dry_run=False)
    assert before.key(7) != after.key(7, dry_run=True)


def test_members_of_kwargs_and_parameters_are_told_apart() -> None:
    @run_once
    def f(a: int, /, **more: int) -> None: ...

    assert len({key(f, 1), key(f, 1, a=1), key(f, 2, a=1), key(f, 1, b=1)}) == 4


def test_rest_arguments_are_a_sequence_of_their_own() -> None:
    assert key(job, 1, 2, 3) != key(job, 1, 2, (3,))
    assert key(job, 1, 2, 3, 4) != key(job, 1, 2, [3, 4])


def test_another_function_has_other_keys() -> None:
    @run_once
    def twin(a: object, b: object = 2) -> None: ...

    assert key(twin, 1) != key(job, 1)


def test_the_key_begins_with_what_people_look_for() -> None:
    name, version, digest = key(job, 1).rsplit(":", 2)
    assert name.endswith("test_digest.job")
    assert version == "v1"
    assert len(digest) == 40


def test_golden_keys() -> None:
    """Changing one of these means that programs before and after stop excluding each other: raise digest.VERSION."""

    def ship(order: object, express: bool = False, *tags: str, **extra: object) -> None: ...

    ship.__module__, ship.__qualname__ = "shop.jobs", "ship"
    fn: Any = run_once(ship)
    assert fn.key(1) == "shop.jobs.ship:v1:9aab923c5f2a95a1de8367e63861b06d0ea42b8e"
    assert (
        fn.key("1", True, "a", note={"b": [1.5, None]}) == "shop.jobs.ship:v1:eebd4c66bbcd7b48689e71d8a447a267ea154aae"
    )


def test_a_default_without_a_form_may_stand_for_nothing() -> None:
    nothing = object()

    @run_once
    def f(a: int, b: object = nothing) -> None: ...

    assert key(f, 1) == key(f, 1, nothing) != key(f, 1, 2)


def test_a_default_that_the_function_changes_is_still_the_default() -> None:
    @run_once(store="memory://digest-defaults")
    def f(seen: list[int] = []) -> None:  # noqa: B006 - that is the point
        seen.append(1)

    before = key(f)
    f()
    assert key(f) == before


def test_an_argument_without_a_form_says_what_to_do() -> None:
    class Thing: ...

    with pytest.raises(ConfigurationError, match=r"'a' of .*job.*Thing.*run_once\(.*key=.*unique_on=.*_key__"):
        key(job, Thing())


def test_a_method_needs_an_instance_with_a_form() -> None:
    class Plain:
        @run_once
        def work(self, x: int) -> None: ...

    with pytest.raises(ConfigurationError, match=r"'self'.*Plain"):
        key(Plain.work, Plain(), 1)

    class Account:
        def __init__(self, number: int) -> None:
            self.id = number

        def __locksmith_key__(self) -> int:
            return self.id

        @run_once
        def work(self, x: int) -> None: ...

    assert key(Account.work, Account(1), 1) == key(Account.work, Account(1), x=1) != key(Account.work, Account(2), 1)


# unique_on


def test_unique_on_chooses_arguments() -> None:
    @run_once(unique_on=["a", "c"])
    def f(a: int, b: int, c: int = 0) -> None: ...

    assert key(f, 1, 2) == key(f, 1, 3) == key(f, 1, b=4, c=0)
    assert len({key(f, 1, 2), key(f, 2, 2), key(f, 1, 2, 3)}) == 3


def test_unique_on_chooses_members_of_kwargs() -> None:
    @run_once(unique_on=["tenant"])
    def f(**options: object) -> None: ...

    assert key(f, tenant=1, x=2) == key(f, x=3, tenant=1) != key(f, tenant=2, x=2)
    assert key(f, x=1) == key(f) != key(f, tenant=None)


def test_unique_on_may_name_all_of_kwargs() -> None:
    @run_once(unique_on=["options"])
    def f(a: int, **options: object) -> None: ...

    assert key(f, 1, x=2) == key(f, 2, x=2) != key(f, 1, x=3)


def test_unique_on_nothing_is_one_key_for_the_function() -> None:
    @run_once(unique_on=[])
    def f(a: object) -> None: ...

    assert key(f, 1) == key(f, object())


def test_unique_on_takes_one_name() -> None:
    @run_once(unique_on="account")
    def f(account: int, x: int) -> None: ...

    assert key(f, 1, 2) == key(f, 1, 3) != key(f, 2, 2)


@pytest.mark.parametrize("unique_on", [["nope"], ["a", "nope"], "ab", [1]])
def test_unknown_names_fail_when_decorating(unique_on: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"unique_on"):

        @run_once(unique_on=unique_on)
        def f(a: int, b: int) -> None: ...


def test_only_functions_have_a_key_of_their_own() -> None:
    import functools

    def add(a: int, b: int) -> int:
        return a + b

    with pytest.raises(ConfigurationError, match="partial"):
        run_once(functools.partial(add, 1))
    with pytest.raises(ConfigurationError, match="lambda"):
        run_once(lambda: 1)
    assert key(run_once("add")(functools.partial(add, 1)), 2) == "add"


def test_wrong_arguments_are_a_type_error_as_ever() -> None:
    with pytest.raises(TypeError, match=r"job\(\): missing .* 'a'"):
        key(job)


# Properties.

plain = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers()))


@given(plain, plain, plain)
def test_how_an_argument_is_passed_does_not_count(a: object, b: object, c: object) -> None:
    assert key(job, a, b, c=c) == key(job, c=c, b=b, a=a)


@given(st.tuples(plain, plain, plain), st.tuples(plain, plain, plain))
def test_other_arguments_other_key(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    same = all(repr(x) == repr(y) for x, y in zip(one, other, strict=True))
    assert (key(job, one[0], one[1], c=one[2]) == key(job, other[0], other[1], c=other[2])) == same


# The name of a script's functions is the same in every process that runs or imports it.


def test_a_script_has_the_same_keys_as_the_module(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        "import multiprocessing\n"
        "from locksmith import run_once\n"
        "@run_once\n"
        "def work(a): ...\n"
        "def show(): print(work.key(1), flush=True)\n"
        'if __name__ == "__main__":\n'
        "    show()\n"
        '    child = multiprocessing.get_context("spawn").Process(target=show)\n'
        "    child.start(); child.join()\n"
    )

    # A script finds its neighbours beside it, whatever the one who runs the tests has set.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}

    def lines(*arguments: str) -> list[str]:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.split()

    as_script, in_spawned_child = lines("jobs.py")
    as_module, _ = lines("-m", "jobs")
    (imported,) = lines("-c", "import jobs; jobs.show()")
    assert as_script == in_spawned_child == as_module == imported
    assert imported.startswith("jobs.work:")


def _star(a: int, b: int = 2, *c: int, d: int = 4, **e: int) -> None: ...
def _plain(a: int, b: int = 2, *, c: int, d: int = 4) -> None: ...
def _slash(a: int, /, b: int = 2) -> None: ...
def _none() -> None: ...


@pytest.mark.parametrize("fn", [_star, _plain, _slash, _none])
def test_binding_is_what_python_does(fn: Any) -> None:
    signature = inspect.signature(fn)
    bind = keys._binder(fn, signature)
    for count in range(4):
        for names in itertools.chain.from_iterable(itertools.combinations("abcdx", many) for many in range(4)):
            args, kwargs = tuple(range(count)), dict.fromkeys(names, 7)
            try:
                wanted = signature.bind(*args, **kwargs)
            except TypeError:
                with pytest.raises(TypeError):
                    bind(args, kwargs)
                continue
            found = bind(args, kwargs)
            assert dict(found.arguments) == dict(wanted.arguments)
            wanted.apply_defaults()
            found.apply_defaults()
            assert list(found.arguments.items()) == list(wanted.arguments.items())
