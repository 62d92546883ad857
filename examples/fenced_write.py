"""A holder sleeps through its own lease, wakes up and writes: the database refuses it, because it compares tokens.

    LOCKSMITH_URL=sqlite:////tmp/locks.db python fenced_write.py

No lock service can prevent the late write itself: from the sleeper's side, nothing has happened. So the row carries the
token of its last writer, and an update brings its own along.
"""

from __future__ import annotations

import os
import sqlite3
import sys

import locksmith


class Account:
    """The guarded resource. In life it is on another server than the locks."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:")
        self._database.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, token INTEGER)")
        self._database.execute("INSERT INTO account VALUES (1, 100, 0)")

    def set_balance(self, balance: int, *, token: int) -> bool:
        """False where somebody with a greater token has written: the caller's lease is over."""
        update = "UPDATE account SET balance = ?, token = ? WHERE id = 1 AND token <= ?"
        return self._database.execute(update, (balance, token, token)).rowcount == 1

    @property
    def balance(self) -> int:
        """What is on it."""
        (found,) = self._database.execute("SELECT balance FROM account WHERE id = 1").fetchone()
        return int(found)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def main() -> int:
    """Two holders, one of which is late."""
    account = Account()
    with locksmith.connect(os.environ["LOCKSMITH_URL"]) as client:
        lock = client.lock("account:1")
        sleeper = lock.acquire()
        # What the store does when a sleeper's ttl has ended; `locksmith break` does it by hand.
        client.evict("account:1", sleeper.token)
        with lock.acquire(wait=10) as holder:
            print("the holder writes:", account.set_balance(150, token=holder.token))
            print("the sleeper wakes up and writes:", account.set_balance(90, token=sleeper.token))
        try:
            sleeper.release()
        except locksmith.LeaseLost as lost:
            print("and is told:", lost)
    balance = account.balance
    account.close()
    print("balance:", balance)
    return 0 if balance == 150 else 1


if __name__ == "__main__":
    sys.exit(main())
