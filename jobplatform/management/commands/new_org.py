"""`eval "$(manage.py new_org ORG --agent NAME)"`: all that a first task needs, as lines for a shell on stdout."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, router, transaction

from apps.core import clock
from apps.core.errors import Invalid
from apps.orgs import keys
from apps.orgs.config_keys import TABLE
from apps.orgs.founding import found
from apps.orgs.models import ApiKey, Org
from apps.roles.book import RoleBook
from apps.roles.documents import read_role
from jobplatform import env

ROLE = "agents"
"""Its holders are candidates for every task."""
BY = "command line"


class Command(BaseCommand):
    help = (
        "Make an organization with a key for its admin and, for each --agent, a key and a role that makes it a candidate. "
        'Prints what a shell needs: eval "$(python manage.py new_org acme --agent ada)"'
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("org", metavar="ORG", help="its id")
        parser.add_argument("--agent", action="append", default=[], metavar="NAME", help="an agent of it; may be repeated")

    def handle(self, *args: Any, **options: Any) -> None:
        org_id, agents = options["org"], list(dict.fromkeys(options["agent"]))
        try:
            with transaction.atomic(using=router.db_for_write(Org)):
                made = self._made(org_id, agents)
        except Invalid as error:
            further = f" `create_api_key --org {shlex.quote(org_id)} …` makes further keys." if _is_there(error) else ""
            raise CommandError(f"{'. '.join(one.message for one in error.problems)}.{further}") from None
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used ({error}). `python manage.py setup` brings it up to date.") from None
        for name, value in {**_places(), **made}.items():
            self.stdout.write(f"export {name}={shlex.quote(value)}")
        self.stderr.write(f"{org_id} is made. The keys are not shown again: {', '.join(made)}.")

    def _made(self, org_id: str, agents: list[str]) -> dict[str, str]:
        """Variables of a shell."""
        now = clock.now()
        org = found(org_id, by=BY, now=now)
        admin = keys.create(org=org, role=ApiKey.Role.ORG_ADMIN, by=BY, now=now).printed
        made = {"JOBPLATFORM_API_KEY": admin, "ADMIN_KEY": admin}
        book = RoleBook(org_id, by=BY, now=now)
        if agents:
            book.put_role(ROLE, read_role(ROLE, {"role_type": TABLE["candidate_role_type"].default}))
        for agent in agents:
            key = keys.create(org=org, role=ApiKey.Role.AGENT, subject_id=agent, by=BY, now=now)
            book.grant(agent, [ROLE])
            made[_variable(agent, made)] = key.printed
        return made


def _places() -> dict[str, str]:
    """Where the platform is, as far as it is known here. The URL of a NATS server of one's own may hold the platform's password."""
    running = env.running_stack()
    urls = running.get("urls", {})
    embedded = urls.get("nats") if "nats" in running.get("ports", {}) else None
    found = {"JOBPLATFORM_URL": env.text("PUBLIC_URL") or urls.get("web"), "JOBPLATFORM_NATS_URL": env.text("NATS_PUBLIC_URL") or embedded}
    return {name: url for name, url in found.items() if url}


def _variable(agent: str, taken: Collection[str]) -> str:
    name = re.sub(r"\W|^(?=\d)", "_", f"{agent}_KEY", flags=re.ASCII).upper()
    while name in taken:
        name += "_"
    return name


def _is_there(error: Invalid) -> bool:
    return any(problem.code == "exists" for problem in error.problems)
