"""What a user gets from the built package alone: run by `nox -s build` in an environment without any extra."""

from __future__ import annotations

from importlib.metadata import files, version

import locksmith

PACKAGES = ("locksmith", "locksmith_redis", "locksmith_sql", "locksmith_bench")


def main() -> None:
    shipped = {str(file) for file in files("locksmith") or ()}
    for package in PACKAGES:
        assert f"{package}/py.typed" in shipped, f"{package} ships no py.typed"
    assert any(name.endswith(".lua") for name in shipped), "the scripts of Redis are not in the wheel"
    assert any(name.endswith("LICENSE") for name in shipped), "the licence is not in the wheel"
    assert not any(name.startswith("tests") for name in shipped), "the tests are in the wheel"
    with locksmith.connect("memory://") as client, client.lock("built").acquire(wait=0) as lease:
        lease.check()
    print(f"locksmith {version('locksmith')} imports and locks")


main()
