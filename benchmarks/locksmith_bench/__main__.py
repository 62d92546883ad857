"""`python -m locksmith_bench [--goals] [--quick] [--json] URL...`: the suite without the command line of locksmith."""

from __future__ import annotations

import sys

from locksmith_bench import cli_entry

if __name__ == "__main__":
    urls = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    sys.exit(cli_entry(urls, "--quick" in sys.argv, "--json" in sys.argv, "--goals" in sys.argv))
