"""Brings every database up to date and loads the built-in policy scripts. Safe to run again, and in several copies.

In production it refuses servers that are too old or let anybody in, before anything is written to them.
"""

from __future__ import annotations

from django.conf import settings
from django.core.management import call_command, get_commands
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from apps.orgs import audit_guard
from jobplatform import gate


class Command(BaseCommand):
    help = "Migrate every database and load the built-in policy scripts; safe to run again."
    requires_system_checks = []

    def handle(self, **options) -> None:
        if gate.in_production() and (found := gate.refusals()):
            told = "\n".join(f"- {finding.check}: {finding.fact} -> {finding.mend}" for finding in found)
            raise CommandError(f"not in production (PUBLIC_URL is set):\n{told}")
        for alias in settings.DATABASES:
            if _is_up_to_date(alias):
                # Django would look at every table and permission all the same.
                audit_guard.install(using=alias)
                continue
            call_command("migrate", database=alias, interactive=False, verbosity=0)
        if "load_policies" in get_commands():
            call_command("load_policies", verbosity=0)
        self.stdout.write("databases and policy scripts are up to date")


def _is_up_to_date(alias: str) -> bool:
    executor = MigrationExecutor(connections[alias])
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
