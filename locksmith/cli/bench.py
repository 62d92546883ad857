"""`locksmith bench`: hands over to the benchmark suite."""

from __future__ import annotations

import importlib
from dataclasses import replace

import click

from locksmith.cli.settings import Settings, common_options
from locksmith.errors import ConfigurationError


@click.command("bench")
@click.option("--quick", is_flag=True, help="Within half a minute per store, with wider error bars.")
@click.option("--also", metavar="URL", multiple=True, help="Measure this store, too. Can be given several times.")
@click.option("--goals", is_flag=True, help="Only what has a goal, as one table: a row for each store.")
@common_options
def bench_command(settings: Settings, quick: bool, also: tuple[str, ...], goals: bool) -> int:
    """Measure the store here and now, beside the least its driver can do.

    Ratios of one run mean something; absolute numbers of two machines, or of two days, do not.
    """
    try:
        suite = importlib.import_module("locksmith_bench")
    except ModuleNotFoundError as missing:
        needs = f"the benchmark suite needs {missing.name}, which is not installed: pip install 'locksmith[bench]'"
        raise ConfigurationError(needs) from missing
    urls = [replace(settings, store=url).url for url in (settings.store, *also)]
    status: int = suite.cli_entry(urls, quick, settings.as_json, goals)
    return status
