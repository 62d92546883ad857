"""What about an ensemble breaks promises: asked with four-letter words, where the server allows them, judged here."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Final

from locksmith.runtime import Runtime
from locksmith.store import Finding
from locksmith_zookeeper.url import Server

_SECONDS: Final = 2.0
_SLOW: Final = 0.1
_ADVICE: Final = "allow srvr and conf in 4lw.commands.whitelist to learn more from this probe"


async def diagnose(server: Server, runtime: Runtime, took: float) -> list[Finding]:
    """The findings, worst news and good news alike. `took`: seconds of a round trip to the leader."""
    findings = [_latency(took)]
    for host, port in server.hosts:
        findings += await runtime.call(lambda host=host, port=port: _member(server, host, port))  # type: ignore[misc]
    count = len(server.hosts)
    if count > 1:
        findings.append(Finding("ok", f"the URL names {count} servers"))
    return findings


def _latency(took: float) -> Finding:
    what = f"a round trip to the leader takes {took * 1000:.1f} ms"
    if took > _SLOW:
        return Finding("warning", what, "keep every ttl well above several round trips")
    return Finding("ok", what)


def _member(server: Server, host: str, port: int) -> list[Finding]:
    place = f"{host}:{port}"
    try:
        said, conf = _command(server, host, port, "srvr"), _command(server, host, port, "conf")
    except (OSError, ValueError) as error:
        return [Finding("warning", f"{place} could not be asked ({error})", "check that all servers run")]
    if "not currently serving" in said:
        return [Finding("warning", f"{place} does not serve now", "an ensemble needs a majority of its servers")]
    if "Mode:" not in said or "whitelist" in said:
        return [Finding("warning", f"{place} does not tell its mode, version and session limits", _ADVICE)]
    return [_mode(place, said), _sessions(place, conf)]


def _mode(place: str, said: str) -> Finding:
    mode, version = _value(said, r"Mode: (\S+)"), _value(said, r"Zookeeper version: ([0-9.]+)")
    what = f"{place} is ZooKeeper {version}, {mode}"
    if mode == "standalone":
        return Finding("warning", what, "a single server: while it is down nobody gets a lock; use three")
    return Finding("ok", what)


def _sessions(place: str, conf: str) -> Finding:
    tick, low, high = (_value(conf, rf"{key}=(\d+)") for key in ("tickTime", "minSessionTimeout", "maxSessionTimeout"))
    if "?" in (tick, low, high):
        return Finding("warning", f"{place} does not tell its session limits", _ADVICE)
    return Finding(
        "ok",
        f"{place} keeps sessions for {int(low) / 1000:g} to {int(high) / 1000:g} s, in ticks of {int(tick) / 1000:g} s"
        ": a shorter ttl is rounded up, a longer one refused",
    )


def _value(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else "?"


def _command(server: Server, host: str, port: int, word: str) -> str:
    plain = socket.create_connection((host, port), timeout=min(_SECONDS, server.timeout))
    with _secure(server, plain, host) if server.tls.get("use_ssl") else plain as connection:
        connection.sendall(word.encode())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def _secure(server: Server, plain: socket.socket, host: str) -> socket.socket:
    tls = server.tls
    context = ssl.create_default_context(cafile=tls.get("ca"))
    context.check_hostname = bool(tls.get("check_hostname"))
    if tls.get("verify_certs") is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if "certfile" in tls:
        context.load_cert_chain(tls["certfile"], tls.get("keyfile"), tls.get("keyfile_password"))
    return context.wrap_socket(plain, server_hostname=host)
