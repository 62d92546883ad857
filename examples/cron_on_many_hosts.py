"""A cron job that every host starts, and one runs.

Put the same line into the crontab of each host:

    0 3 * * *  LOCKSMITH_URL=redis://locks:6379/0 python cron_on_many_hosts.py

`once_per` is what makes it once a night: a host whose clock is late finds the job done, not just free. If the host that
runs it dies, the lock is free after `ttl`, and whoever calls next starts the report again; nobody calls again by
themselves, so a job that must happen is started more than once a period, here by a second line at 03:10.
"""

from __future__ import annotations

import datetime
import sys

import locksmith


@locksmith.run_once("nightly-report:{day}", once_per=20 * 3600, ttl=60)
def nightly_report(day: datetime.date) -> str:
    """Write the report of a day."""
    lease = locksmith.current_lease()
    assert lease is not None, "run_once holds one while this runs"
    return f"report of {day} written under token {lease.token}"


def main() -> int:
    """Run it, unless another host does or has."""
    done = nightly_report(datetime.datetime.now(datetime.UTC).date())
    print("another host does it, or has" if done is locksmith.SKIPPED else done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
