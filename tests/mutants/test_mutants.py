"""The tests of the tests: every broken variant of the code must make some test fail, and the right code none."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant

import locksmith
import locksmith_redis
import locksmith_sql

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "locksmith": Path(locksmith.__file__).parent,
    "backends/locksmith_redis": Path(locksmith_redis.__file__).parent,
    "backends/locksmith_sql": Path(locksmith_sql.__file__).parent,
}

# Each runs a pytest of its own: once, on one Python, and not where everything is patched.
pytestmark = [pytest.mark.slow, pytest.mark.native_threads, pytest.mark.timeout(300)]


def copy_of_the_code(folder: Path) -> None:
    """With what Python has compiled of it, which holds for the copy too: times of modification are copied."""
    for name, package in PACKAGES.items():
        shutil.copytree(package, folder / name)


def rewrite(file: Path, text: str) -> None:
    """Change a file of the copy, and leave nothing compiled of what it was."""
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()
    file.write_text(text)


def run_tests(folder: Path, where: str, which: str) -> subprocess.CompletedProcess[str]:
    """Run tests against the copy: it comes first on the path of the process and of those that it starts."""
    path = os.pathsep.join([str(folder), str(folder / "backends")])
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", "--timeout=30"]
    return subprocess.run(
        [*command, *shlex.split(where), "-k", which],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize(
    "where", sorted({mutant.where for mutant in MUTANTS}), ids=lambda where: where.replace(".py", "")
)
def test_the_right_code_passes(where: str, tmp_path: Path) -> None:
    """The tests that kill the mutants of one place: what fails without a mutant kills none."""
    copy_of_the_code(tmp_path)
    chosen = [f"({mutant.tests})" for mutant in MUTANTS if mutant.where == where]
    right = run_tests(tmp_path, where, " or ".join(chosen))
    assert right.returncode == 0, f"these tests do not pass on the right code:\n{right.stdout}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_the_mutant_dies(mutant: Mutant, tmp_path: Path) -> None:
    copy_of_the_code(tmp_path)
    file = tmp_path / mutant.file
    source = file.read_text()
    assert source.count(mutant.old) == 1, f"{mutant.file} has changed: write this mutant anew"
    rewrite(file, source.replace(mutant.old, mutant.new))
    wrong = run_tests(tmp_path, mutant.where, mutant.tests)
    # 1 is pytest's word for failed tests; errors of collection or usage kill nothing.
    assert wrong.returncode == 1, f"it lives:\n{wrong.stdout}"
    assert " failed" in wrong.stdout


def test_the_tests_ran_against_the_copy(tmp_path: Path) -> None:
    """Otherwise every mutant above would live, or die of something else."""
    copy_of_the_code(tmp_path)
    rewrite(tmp_path / "locksmith" / "errors.py", "raise SystemExit(99)")
    assert run_tests(tmp_path, "tests/core", "memory").returncode not in (0, 1, 5)
