"""`manage.py backup FILE`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobplatform import backup


class Command(BaseCommand):
    help = "Back up what cannot be made again into one tar file, beside a running platform: SQLite databases, the key, jobs' uploads."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a new file; an older one is never written over")

    def handle(self, *args: Any, file: str, **options: Any) -> None:
        target = Path(file).expanduser()
        others = backup.elsewhere()
        try:
            names = backup.write(target)
        except backup.CannotBackUp as error:
            raise CommandError("\n".join([str(error), *(f"{alias}: {tool}" for alias, tool in others.items())])) from None
        except OSError as error:
            raise CommandError(f"{target}: {error.strerror}") from None
        self.stdout.write(f"{target}: {', '.join(names)}. To restore: stop, empty the data directory, tar -xf {target} -C it, start.")
        for alias, tool in others.items():
            self.stdout.write(f"Now the database '{alias}', which is not in it: {tool}")
