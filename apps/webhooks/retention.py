"""The log of deliveries is kept for as long as each org wants (`webhook_retention_days`), then forgotten."""

from __future__ import annotations

from datetime import datetime, timedelta

from apps.orgs.config_store import OrgConfigProvider
from apps.webhooks.derive import span
from apps.webhooks.event_types import floor
from apps.webhooks.models import DELIVERED, FAILED, Attempt, Delivery, Endpoint

CHUNK = 500


def forget_old(*, now: datetime) -> int:
    """Delete ended deliveries older than their org keeps them, with their attempts; how many."""
    gone = 0
    for endpoint_id, org_id in Endpoint.objects.values_list("pk", "org_id"):
        kept = timedelta(days=OrgConfigProvider().of(org_id or "").webhook_retention_days)
        low, high = span(endpoint_id, "", floor(now - kept))
        # By id, which sorts by time: no further index is needed, and a chunk is a short write.
        rows = Delivery.objects.filter(pk__gte=low, pk__lt=high, state__in=[DELIVERED, FAILED]).order_by("pk")
        while chunk := list(rows.values_list("pk", flat=True)[:CHUNK]):
            Attempt.objects.filter(delivery_id__in=chunk).delete()
            Delivery.objects.filter(pk__in=chunk).delete()
            gone += len(chunk)
    return gone
