"""Waiting for a condition."""

from __future__ import annotations

import asyncio

import pytest

from locksmith.testing.waiting import eventually, eventually_async


def test_the_first_truthy_answer_comes_back():
    answers = iter([0, None, "", "yes"])
    assert eventually(lambda: next(answers)) == "yes"


def test_a_failure_says_what_was_expected_and_what_came():
    with pytest.raises(AssertionError, match=r"not within 0.01 s: the sun rises \(last answer: 0\)"):
        eventually(lambda: 0, within=0.01, what="the sun rises")


def test_coroutines_and_functions_alike():
    async def both() -> tuple[int, int]:
        answers = iter([0, 7])

        async def asked() -> int:
            return next(answers)

        return await eventually_async(asked), await eventually_async(lambda: 8)

    assert asyncio.run(both()) == (7, 8)


def test_a_failure_in_a_loop():
    async def never() -> None:
        await eventually_async(lambda: False, within=0.01)

    with pytest.raises(AssertionError, match="not within"):
        asyncio.run(never())
