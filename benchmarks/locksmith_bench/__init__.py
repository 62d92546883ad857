"""The benchmark suite: what locksmith costs against the floor of each store and against its rivals, in one run.

A floor is the simplest safe pair of that server, sent by hand through the same driver, connection and runtime.
Contenders are interleaved round by round, and what counts is the ratio within one run, not the absolute number.
"""

from __future__ import annotations

from collections.abc import Sequence


def cli_entry(stores: Sequence[str], quick: bool, as_json: bool, goals: bool = False) -> int:
    """Run the suite on these URLs, print tables, or with `as_json` one JSON object as the last line; an exit status.

    With `goals` only what has a goal is measured, and the result is one table with a row for each store.
    """
    from locksmith_bench import suite

    run = suite.run_goals if goals else suite.run
    return run(list(stores), quick=quick, as_json=as_json)
