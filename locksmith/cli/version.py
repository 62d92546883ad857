"""`locksmith version`: what runs here."""

from __future__ import annotations

import platform

import click

import locksmith
from locksmith import registry
from locksmith.cli import output
from locksmith.cli.settings import Settings, common_options


@click.command("version")
@common_options
def version_command(settings: Settings) -> int:
    """Versions of locksmith and Python, and the URL schemes that stores are installed for."""
    schemes = registry.schemes()
    if settings.as_json:
        output.say_json({"locksmith": locksmith.__version__, "python": platform.python_version(), "schemes": schemes})
    else:
        known = " ".join(f"{scheme}://" for scheme in schemes)
        click.echo(f"locksmith {locksmith.__version__} on Python {platform.python_version()}; stores: {known}")
    return 0
