"""A certificate authority of a few days, made by the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from locksmith.errors import LocksmithError
from locksmith.testing.servers.programs import find

_DAYS: Final = "3"
_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# Complete on its own, so that nothing depends on the system's openssl.cnf. The extensions are those that Python 3.13
# insists on (VERIFY_X509_STRICT).
_CONFIG: Final = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = locksmith throwaway
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Certificates:
    """The files, all PEM, keys without a passphrase. The server's certificate is for localhost, 127.0.0.1 and ::1."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, and certificates for a server and a client, in `folder`; about 50 ms.

    Raises:
        ServerMissing: the openssl program is not installed.
        LocksmithError: openssl failed; the message has what it said.
    """
    openssl = str(find("openssl"))
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "openssl.cnf"
    config.write_text(_CONFIG)
    authority, key = folder / "ca.pem", folder / "ca.key"
    request = [openssl, "req", "-config", str(config), *_KEY]
    named = ["-x509", "-days", _DAYS, "-subj", "/CN=locksmith throwaway authority", "-extensions", "authority"]
    _run([*request, *named, "-keyout", str(key), "-out", str(authority)])
    sign = [openssl, "x509", "-req", "-CA", str(authority), "-CAkey", str(key), "-CAcreateserial", "-days", _DAYS]
    for kind in ("server", "client"):
        asked, private = folder / f"{kind}.csr", folder / f"{kind}.key"
        _run([*request, "-new", "-subj", f"/CN=locksmith {kind}", "-keyout", str(private), "-out", str(asked)])
        extensions = ["-extfile", str(config), "-extensions", kind]
        _run([*sign, "-in", str(asked), *extensions, "-out", str(folder / f"{kind}.pem")])
    return Certificates(
        authority=authority,
        server=folder / "server.pem",
        server_key=folder / "server.key",
        client=folder / "client.pem",
        client_key=folder / "client.key",
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise LocksmithError(f"`{' '.join(command)}` failed:\n{done.stderr}")
