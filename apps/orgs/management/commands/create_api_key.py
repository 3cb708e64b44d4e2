"""`manage.py create_api_key --org ORG --role ROLE …`: the key alone on stdout, everything else on stderr."""

from __future__ import annotations

import difflib
import json
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, router, transaction

from apps.core import clock
from apps.core.errors import Invalid
from apps.orgs import keys
from apps.orgs.founding import found
from apps.orgs.models import ApiKey, Org


class Command(BaseCommand):
    help = "Make an API key and print it, this once: send it as `Authorization: Bearer <key>`; agents use it for NATS too."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--org", required=True, help="the organization the key belongs to")
        parser.add_argument("--create-org", action="store_true", help="make the organization when it does not exist")
        parser.add_argument("--role", required=True, choices=ApiKey.Role.values)
        parser.add_argument("--subject", default="", help="whom the key speaks for; required for agents, and made when missing")
        parser.add_argument("--expires-days", type=int, metavar="N", help="the key ends after N days; default: never")
        parser.add_argument("--name", default="", help="what people call the key")
        parser.add_argument("--per-minute", type=float, metavar="N", help="new tasks a minute with this key; default: the org's limit")
        parser.add_argument("--json", action="store_true", help="print a JSON object instead of the key alone")

    def handle(self, *args: Any, **options: Any) -> None:
        now = clock.now()
        days = options["expires_days"]
        if days is not None and not 1 <= days <= 36_500:
            raise CommandError("--expires-days must be a whole number from 1 to 36500.")
        per_minute = options["per_minute"]
        if per_minute is not None and not 0.01 <= per_minute <= 10_000_000:
            raise CommandError("--per-minute must be a number from 0.01 to 10000000.")
        if options["role"] == ApiKey.Role.AGENT and not options["subject"]:
            raise CommandError("An agent's key must say whose it is: add --subject SUBJECT.")
        try:
            made = self._made(options, now)
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used ({error}). `python manage.py setup` brings it up to date.") from None
        if options["json"]:
            facts = {
                "key": made.printed,
                "key_id": made.row.key_id,
                "org_id": made.row.org_id,
                "role": made.row.role,
                "subject_id": made.row.subject_id,
                "expires_at": clock.iso(made.row.expires_at),
            }
            self.stdout.write(json.dumps(facts))
        else:
            self.stdout.write(made.printed)
        self.stderr.write(f"API key {made.row}. It is not shown again; revoke it with `manage.py revoke_api_key {made.row.key_id}`.")

    def _made(self, options: dict[str, Any], now: datetime) -> keys.NewKey:
        """The org, when asked for, and the key: both or neither."""
        days = options["expires_days"]
        with transaction.atomic(using=router.db_for_write(Org)):
            org = self._org(options["org"], create=options["create_org"])
            try:
                return keys.create(
                    org=org,
                    role=options["role"],
                    subject_id=options["subject"],
                    name=options["name"],
                    expires_at=now + timedelta(days=days) if days else None,
                    rate_limit_per_minute=options["per_minute"],
                    by="command line",
                    now=now,
                )
            except Invalid as error:
                raise CommandError(str(error)) from None

    def _org(self, org_id: str, *, create: bool) -> Org:
        org = Org.objects.filter(pk=org_id).first()
        if org is not None:
            return org
        if not create:
            near = difflib.get_close_matches(org_id, Org.objects.values_list("pk", flat=True), n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise CommandError(f"There is no organization '{org_id}'.{hint} Add --create-org to make it.")
        try:
            return found(org_id, by="command line", now=clock.now())
        except Invalid as error:
            raise CommandError(f"{error.problems[0].message}.") from None
