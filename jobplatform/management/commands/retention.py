"""`manage.py retention [--dry-run] [--at TIME] [--org ORG]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.core import clock
from apps.orgs.models import Org
from apps.retention.keeper import Keeper


class Command(BaseCommand):
    help = "Remove what has been kept for long enough, as upkeep does every hour, and say what it was: rows by kind and table."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count, and remove nothing")
        parser.add_argument("--at", metavar="TIME", help="with --dry-run: what would go at that time (ISO 8601 with its zone)")
        parser.add_argument("--org", default="", help="of this org only")

    def handle(self, *args: Any, dry_run: bool, at: str | None, org: str, **options: Any) -> None:
        now = clock.now() if at is None else clock.read(at)
        if now is None:
            raise CommandError("--at must be an ISO 8601 time with its zone, such as 2027-01-31T00:00:00Z.")
        if at is not None and not dry_run:
            raise CommandError("--at goes with --dry-run: what is not over yet is not removed.")
        if org and not Org.objects.filter(pk=org).exists():
            raise CommandError(f"There is no organization '{org}'.")
        done = Keeper().run(now=now, dry=dry_run, only=org)
        for kind, found in done.rows.items():
            for table, number in sorted(found.items()):
                if number:
                    self.stdout.write(f"{kind:<14} {table:<28} {number:>10}")
        self.stdout.write(f"{done.total} rows {'would be' if dry_run else 'were'} removed.")
