"""Paces: how much of each key was taken, in rows of their own, judged inside one immediate transaction.

Like leases they are judged by the host's clock, which nobody can set, so that the wall clock's jumps neither stop nor
double a pace. What users see counts from 1970: each row keeps what the two clocks were apart when it was first written
in its era. In another era (after a reboot) the wall clock says how much time has passed.
"""

from __future__ import annotations

from locksmith import pacing
from locksmith.pacing import Rate, Slot, State
from locksmith_sql.sqlite.clock import MICROS
from locksmith_sql.sqlite.ledger import Ledger

_HOUR = 3600 * MICROS


def book(ledger: Ledger, key: str, rates: tuple[Rate, ...], cost: int, at_most: float) -> Slot:
    """See Store.pace."""
    row = ledger.cursor.execute(ledger.sql.pace, (key,)).fetchone()
    shift, state = ledger.wall - ledger.now, None
    if row is not None:
        seen, last, leads, era, before = row
        state = State(seen, last, tuple(int(lead) for lead in leads.split()))
        if era == ledger.era:
            shift = before
    now = ledger.now + shift
    terms = pacing.terms(rates, cost)
    decision = pacing.decide(state, now, terms, pacing.nanos(at_most))
    if (kept := decision.state) is not None:
        # By the hour, so that the index over it is not written each time.
        sweep_at = (ledger.wall + kept.lives(terms) // 1000) // _HOUR * _HOUR + _HOUR
        values = (key, kept.seen, kept.last, " ".join(map(str, kept.leads)), ledger.era, shift, sweep_at)
        ledger.cursor.execute(ledger.sql.set_pace, values)
    return decision.told(now)
