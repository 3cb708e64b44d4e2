"""A new organization, and the line about it on the audit trail."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import router, transaction

from apps.core.errors import Invalid, Problem
from apps.orgs.audit import record
from apps.orgs.models import Change, Org


def found(org_id: str, *, by: str, now: datetime) -> Org:
    """Raises Invalid when it is there already or cannot be an id."""
    org = Org(org_id=org_id, created_at=now)
    with transaction.atomic(using=router.db_for_write(Org)):
        if Org.objects.filter(pk=org_id).exists():
            raise Invalid([Problem(field="org_id", code="exists", message=f"'{org_id}' is an organization already")])
        try:
            org.full_clean()
        except ValidationError:
            message = f"'{org_id}' cannot be an organization's id: letters, digits and . _ - only, at most 64"
            raise Invalid([Problem(field="org_id", code="bad_id", message=message)]) from None
        org.save(force_insert=True)
        record(org_id=org_id, kind=Change.Kind.ORG, key=org_id, old=None, new={"org_id": org_id}, by=by, at=now)
    return org
