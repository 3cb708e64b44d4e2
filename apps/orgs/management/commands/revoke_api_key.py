"""`manage.py revoke_api_key KEY_ID`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.core import clock
from apps.orgs import keys


class Command(BaseCommand):
    help = "Revoke an API key: it opens nothing any more, within five seconds everywhere. Agents lose their connection too."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key_id", metavar="KEY_ID", help="the id, the part of a key between the underscores; a whole key will do")

    def handle(self, *args: Any, key_id: str, **options: Any) -> None:
        key_id = key_id.split("_")[1] if key_id.startswith("jp_") and "_" in key_id[3:] else key_id
        try:
            revoked = keys.revoke(key_id, by="command line", now=clock.now())
        except keys.NoSuchKey:
            raise CommandError(f"There is no API key with the id '{key_id}'. The admin lists them.") from None
        self.stderr.write(f"Revoked {revoked.row}.")
        if not revoked.told_nats:
            self.stderr.write(self.style.WARNING("NATS could not be told: the agent stays connected until upkeep reaches it."))
