"""`python -m locksmith` is `locksmith`."""

from __future__ import annotations

import sys

from locksmith.cli import main

if __name__ == "__main__":
    sys.exit(main())
