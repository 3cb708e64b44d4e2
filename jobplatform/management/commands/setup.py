"""Brings every database up to date and loads the built-in policy scripts. Safe to run again, and in several copies."""

from __future__ import annotations

from django.conf import settings
from django.core.management import call_command, get_commands
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Migrate every database and load the built-in policy scripts; safe to run again."
    requires_system_checks = []

    def handle(self, **options) -> None:
        for alias in settings.DATABASES:
            call_command("migrate", database=alias, interactive=False, verbosity=0)
        if "load_policies" in get_commands():
            call_command("load_policies", verbosity=0)
        self.stdout.write("databases and policy scripts are up to date")
