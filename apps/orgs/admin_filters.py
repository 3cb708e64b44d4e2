"""The filter by organization, for lists of whatever belongs to one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest

from apps.core.admin_filters import WordFilter
from apps.orgs.models import Org

CHOICES_MAX = 200


class OrgFilter(WordFilter):
    title, parameter_name, field = "organization", "org", "org_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(org_id, org_id) for org_id in Org.objects.order_by("org_id").values_list("org_id", flat=True)[:CHOICES_MAX]]
