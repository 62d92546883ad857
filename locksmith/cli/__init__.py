"""The command line: `locksmith demo`, `ls`, `show`, `watch`, `break`, `doctor` and others.

Exit status: 0 yes or done; 1 no (not found, a check failed); 2 could not (usage, settings, the store); 130 Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

INTERRUPTED: Final = 130
"""What a shell reports of a program that ended by Ctrl-C."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; `args` default to the process's own."""
    # The demo's workers are modules of this package and start often: click and rich are not for them. And Ctrl-C while
    # they are being imported is as quiet as any other.
    try:
        from locksmith.cli.app import run

        return run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
