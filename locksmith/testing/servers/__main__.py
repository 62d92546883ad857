"""`python -m locksmith.testing.servers install redis`: make the programs available that the tests need."""

from __future__ import annotations

import sys
from typing import Final

from locksmith.errors import ConfigurationError
from locksmith.testing.servers.programs import PROGRAMS, ServerMissing, in_ci, install

USAGE: Final = f"usage: python -m locksmith.testing.servers install [{'] ['.join(PROGRAMS)}]"


def main(arguments: list[str]) -> int:
    """Install the named programs (all without a name); the exit status.

    A program that cannot be had is a failure where CI=true, and elsewhere one line: the tests that need it skip.
    """
    if arguments[:1] != ["install"]:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    try:
        for name in install(arguments[1:] or PROGRAMS):
            sys.stdout.write(f"installed {name}\n")
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except ServerMissing as error:
        consequence = "it is required where CI=true" if in_ci() else "tests that need it will be skipped"
        sys.stderr.write(f"{error}\n({consequence})\n")
        return 1 if in_ci() else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
