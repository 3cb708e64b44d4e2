"""`manage.py purge_org ORG [--yes] [--dry-run]`"""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.core import clock
from apps.core.errors import PlatformError
from apps.core.redis import RedisDown
from apps.messaging.connection import WireDown
from apps.orgs.models import Org, Purge
from apps.retention import purge


class Command(BaseCommand):
    help = "Remove an inactive organization with everything of it: rows, keys, messages, credentials, files. May be run again."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org", metavar="ORG", help="its id")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--dry-run", action="store_true", help="count its rows by table, and remove nothing")

    def handle(self, *args: Any, org: str, yes: bool, dry_run: bool, **options: Any) -> None:
        if dry_run:
            self._count(org)
            return
        try:
            if not Purge.objects.filter(pk=org).exists():
                self._ask(org, yes)
            purge.begin(org, by=f"{getpass.getuser()} at the command line", now=clock.now())
            purge.Purger(org).run(now=clock.now())
        except PlatformError as error:
            raise CommandError(f"{org}: {error.sentence}") from None
        except (*RedisDown, WireDown) as error:
            raise CommandError(f"Not done yet, {error}. Upkeep goes on with it, or run this again.") from None
        self.stdout.write(f"{org} is gone. The audit trail has a line of it.")

    def _count(self, org: str) -> None:
        rows = purge.count(org)
        for table, number in sorted(rows.items()):
            if number:
                self.stdout.write(f"{table:<28} {number:>10}")
        self.stdout.write(f"{rows.total()} rows would be removed.")

    def _ask(self, org: str, yes: bool) -> None:
        row = Org.objects.filter(pk=org).first()
        if row is None:
            raise purge.NoSuchOrg(org_id=org)
        if row.is_active:
            raise purge.StillActive(org_id=org)
        if not yes and input(f"Everything of '{org}' will be gone for good. Type its id to go on: ") != org:
            raise CommandError("That is not its id. Nothing was done.")
