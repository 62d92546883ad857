"""Two million ids, without memory for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "million.py"


@pytest.mark.slow
@pytest.mark.native_threads
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ints", "pages"])
def test_memory_grows_by_less_than_20_mb(kind, tmp_path):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), kind, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.split()[-2])
    assert grown < 20, done.stdout
