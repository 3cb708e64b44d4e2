"""Load the built-in policy scripts as immutable versions and make them active. Safe to repeat and in several copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.core import clock
from apps.core.errors import PlatformError
from apps.dsl import scripts


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        meaning = "holds <hook>/<name>.star and, beside it, <name>.tests.json"
        parser.add_argument("--directory", type=Path, default=settings.BASE_DIR / "dsl_scripts", help=meaning)

    def handle(self, *, directory: Path, verbosity: int, **options: Any) -> None:
        try:
            loaded = scripts.load_built_in(directory, now=clock.now())
        except PlatformError as error:
            raise CommandError(str(error)) from error
        for registered in loaded:
            if registered.created or verbosity > 1:
                script = registered.script
                self.stdout.write(f"{script.script_id} version {script.version}{' (new)' if registered.created else ''}")
        if verbosity:
            self.stdout.write(f"{len(loaded)} built-in policy scripts are active")
