"""What Consul, its driver and the network say, in locksmith's words: translated once, here."""

from __future__ import annotations

import re
import ssl
from typing import Final

from consul.exceptions import ConsulException

from locksmith import redact
from locksmith.errors import StoreAuthError, StoreError, StoreProtocolError, StoreUnavailable
from locksmith_consul.http import NotHttp

RIGHTS: Final = (
    "give the token key:write on the keys of this namespace and session:write on the agent's node: the policy in"
    " docs/stores/consul.md"
)

# By what the answer says, in this order; then by its number.
_SAYINGS: Final[tuple[tuple[str, type[StoreError], str], ...]] = (
    ("permission denied", StoreAuthError, RIGHTS),
    ("acl not found", StoreAuthError, "correct the token in the URL: Consul does not know it"),
    ("acl support disabled", StoreAuthError, "leave the token out of the URL: this server has no ACLs"),
    ("http request to an https", StoreProtocolError, "write consuls:// for an agent that speaks TLS"),
    ("no cluster leader", StoreUnavailable, "the servers are electing one: try again in a moment"),
    ("no path to datacenter", StoreProtocolError, "correct the option dc: this agent knows no such datacenter"),
    ("leadership lost", StoreUnavailable, "what became of the request is unknown; try again"),
    ("too many", StoreUnavailable, "the agent limits connections or requests: see its `limits`, and ask less often"),
)
_NUMBERS: Final[dict[int, tuple[type[StoreError], str]]] = {
    401: (StoreAuthError, "correct the token in the URL"),
    403: (StoreAuthError, RIGHTS),
    413: (StoreProtocolError, "raise kv_max_value_size and txn_max_req_len of the agent"),
    429: (StoreUnavailable, "the agent limits requests: see its `limits`, and ask less often"),
}
_SERVER_FAULT: Final = 500
_CERTIFICATE: Final = re.compile("certificate", re.IGNORECASE)
_PLAIN: Final = re.compile("wrong.version|record layer|unknown protocol|http.request", re.IGNORECASE)
_STATUS: Final = re.compile(r"(\d{3}) (.*)", re.DOTALL)


def refused(code: int, body: str) -> StoreError:
    """The StoreError for an answer that is not what was asked for."""
    text = redact.text(body.strip()[:300]) or f"status {code}"
    for said, kind, advice in _SAYINGS:
        if said in text.lower():
            return kind(f"Consul: {text.rstrip('. ')}; {advice}.")
    if code in _NUMBERS:
        kind, advice = _NUMBERS[code]
    elif code >= _SERVER_FAULT:
        kind, advice = StoreUnavailable, "try again; the agent's log says more"
    else:
        kind, advice = StoreProtocolError, "check that the URL leads to an agent of Consul"
    return kind(f"Consul answered {code}: {text.rstrip('. ')}; {advice}.")


def translate(error: BaseException) -> StoreError:
    """The StoreError for what the driver or the network raised; the caller raises it `from` the original."""
    if isinstance(error, ConsulException):
        told = _STATUS.match(str(error))
        return refused(int(told[1]), told[2]) if told else refused(_SERVER_FAULT, str(error))
    text = redact.text(error) or type(error).__name__
    kind, advice = _judge(error, text)
    return kind(f"Consul: {text.rstrip('. ')}; {advice}.")


def _judge(error: BaseException, text: str) -> tuple[type[StoreError], str]:
    if isinstance(error, NotHttp):
        return StoreProtocolError, "check that the URL leads to an agent of Consul, and whether it speaks TLS"
    if isinstance(error, ssl.SSLError) and _CERTIFICATE.search(text):
        return StoreAuthError, "correct the TLS options of the URL (ca, cert, key)"
    if isinstance(error, ssl.SSLError) and _PLAIN.search(text):
        return StoreProtocolError, "write consul:// for an agent that does not speak TLS"
    if isinstance(error, TimeoutError):
        return StoreUnavailable, "what became of the request is unknown; try again, or raise the option timeout"
    if isinstance(error, OSError):
        return StoreUnavailable, "check that the agent runs, and try again"
    return StoreProtocolError, "check that the URL leads to an agent of Consul"
