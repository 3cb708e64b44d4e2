"""`manage.py beat`: rings for what is due, by the rows of django-celery-beat. One is enough; a second one rings twice."""

from __future__ import annotations

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Ring for periodic work until stopped (SIGTERM or Ctrl-C). Run one."
    requires_system_checks = []

    def handle(self, **_options: object) -> None:
        from jobplatform.celery import app

        app.conf.imports = ()  # it sends by name
        app.Beat(loglevel="WARNING", quiet=True).run()
