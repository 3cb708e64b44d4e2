"""`manage.py reindex_context`: make the vectors of context documents again, after VECTOR_STORE or TEXT_EMBEDDER changed."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.errors import PlatformError
from apps.orgs.models import Org
from apps.workflows.context.documents import Documents


class Command(BaseCommand):
    help = "make the vectors of context documents again from their texts"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--org", help="one organization (default: all)")
        parser.add_argument("--collection", help="one collection (default: all)")

    def handle(self, *, org: str | None, collection: str | None, **_options: Any) -> None:
        orgs = Org.objects.filter(pk=org) if org else Org.objects.all()
        if org and not orgs.exists():
            raise CommandError(f"There is no organization {org}.")
        for org_id in orgs.values_list("pk", flat=True):
            documents = Documents(org_id)
            for name in [collection] if collection else documents.collections():
                try:
                    self.stdout.write(f"{org_id}/{name}: {documents.reindex(name)} vectors")
                except PlatformError as error:
                    raise CommandError(f"{org_id}/{name}: {error}") from None
