"""What `diagnose` looks at: whatever could make this server break a promise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from locksmith.store import Finding
from locksmith_sql.mysql.desk import Desk
from locksmith_sql.mysql.url import TESTED

_ASKED: Final = (
    "version", "innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "binlog_format", "read_only",
    "super_read_only", "innodb_read_only", "max_connections", "wsrep_on", "innodb_doublewrite",
)  # fmt: skip
_VARIABLES: Final = f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({', '.join(repr(name) for name in _ASKED)})"
_THREADS: Final = "SHOW GLOBAL STATUS LIKE 'Threads_connected'"
_REPLICAS: Final = "SELECT COUNT(*) FROM information_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%'"
_CLOCK_OFF: Final = 5.0


async def examine(desk: Desk) -> list[Finding]:
    """The findings about a server."""
    variables = {str(name).lower(): str(value) for name, value in (await desk.ask(_VARIABLES)).reply.rows}
    threads = int((await desk.ask(_THREADS)).reply.rows[0][1])
    server = (await desk.ask(desk.sql.now)).reply.rows[0][0] / 1e6
    replicas = (await desk.ask(_REPLICAS)).reply.rows[0][0]
    return [
        _kind(variables["version"]),
        _driver(desk.link.server.driver),
        *_durability(variables),
        *_writing(variables),
        *_copies(variables, replicas),
        _connections(variables, threads),
        _clock(server - time.time()),
    ]


def _kind(version: str) -> Finding:
    if "mariadb" in version.lower():
        return Finding("ok", f"MariaDB {version}")
    return Finding(
        "warning", f"MySQL {version}: locksmith is tested with MariaDB only", "run the contract suite against it"
    )


def _driver(driver: str) -> Finding:
    if driver in TESTED:
        return Finding("ok", f"the driver is {driver}")
    return Finding("warning", f"locksmith is not tested with the driver {driver}", f"use {' or '.join(TESTED)}")


def _durability(variables: Mapping[str, str]) -> Iterator[Finding]:
    flush = variables.get("innodb_flush_log_at_trx_commit")
    if flush == "1":
        yield Finding("ok", "every commit is on the disk before it is answered")
    else:
        yield Finding(
            "warning",
            f"innodb_flush_log_at_trx_commit is {flush}: a crash forgets the grants of the last second",
            "set it to 1, or let resources check the fencing token",
        )
    if _on(variables, "log_bin") and variables.get("sync_binlog") != "1":
        yield Finding(
            "warning",
            f"sync_binlog is {variables.get('sync_binlog')}: after a crash, replicas may lack the last grants",
            "set it to 1",
        )
    if _on(variables, "log_bin") and variables.get("binlog_format", "").upper() == "STATEMENT":
        yield Finding("error", "binlog_format is STATEMENT: our transactions are refused", "set it to MIXED or ROW")


def _writing(variables: Mapping[str, str]) -> Iterator[Finding]:
    for name in ("read_only", "super_read_only", "innodb_read_only"):
        if variables.get(name, "OFF").upper() not in {"OFF", "0"}:
            yield Finding("error", f"{name} is on: this is a replica, or was made one", "connect to the primary")


def _copies(variables: Mapping[str, str], replicas: int) -> Iterator[Finding]:
    if _on(variables, "wsrep_on"):
        yield Finding(
            "error",
            "this is a node of a Galera cluster: rows are not locked across nodes, and a partition may lose grants",
            "let all clients use one and the same node, and let resources check the fencing token",
        )
    if replicas:
        yield Finding(
            "warning",
            f"{replicas} replicas follow this server: one that is promoted may lack the last grants",
            "let resources check the fencing token",
        )


def _connections(variables: Mapping[str, str], threads: int) -> Finding:
    most = int(variables.get("max_connections", "0"))
    if threads > 0.8 * most:
        return Finding("warning", f"{threads} of {most} connections are in use", "raise max_connections")
    return Finding("ok", f"{threads} of {most} connections are in use; a client that waits has one more")


def _clock(ahead: float) -> Finding:
    if abs(ahead) > _CLOCK_OFF:
        return Finding(
            "warning",
            f"the server's clock and ours are {abs(ahead):.0f} s apart: one of them may be set before long",
            "let NTP slew the server's clock; leases end by it, and a jump forward ends them early",
        )
    return Finding("ok", f"the server's clock is within {_CLOCK_OFF:g} s of ours")


def _on(variables: Mapping[str, str], name: str) -> bool:
    return variables.get(name, "OFF").upper() in {"ON", "1"}
