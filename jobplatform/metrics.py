"""`GET /metrics` for Prometheus. The platform's token (METRICS_TOKEN) shows everything; an org's own key, that org's gauges.

Counters are of the whole platform and say nothing of a tenant; gauges carry the org. Whoever has neither gets a 401.
"""

from __future__ import annotations

import hmac
from collections import defaultdict
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Count, Min
from django.http import HttpResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiTypes, extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core import clock, observe
from apps.core.auth import Principal
from apps.core.errors import Unavailable
from apps.core.observe_read import CONTENT_TYPE, counted, exposition, gauges
from apps.core.redis import RedisDown
from apps.jobs.models import Job
from apps.orgs.access import OPERATOR, ApiKeyAuthentication, RequireRole
from apps.tasks.models import Task
from apps.tasks.states import OPEN, TaskStatus
from apps.webhooks.models import PENDING, Delivery, Endpoint

ORGS_MAX = 50
REST = "_other"

Found = dict[str, dict[tuple[str, ...], float]]


class MetricsToken(BaseAuthentication):
    """The bearer token of whoever runs the platform. Anything else is left to the next in line."""

    def authenticate(self, request: Request) -> tuple[Principal, str] | None:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        known = settings.METRICS_TOKEN
        if not known or scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), known.encode()):
            return None
        return Principal(org_id="", role=OPERATOR, subject_id="", key_id="metrics", name="METRICS_TOKEN"), "metrics"


class MetricsTokenScheme(OpenApiAuthenticationExtension):
    """How it reads in the OpenAPI document."""

    target_class = MetricsToken
    name = "metricsToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "The platform's METRICS_TOKEN."}


class Metrics(APIView):
    authentication_classes = [MetricsToken, ApiKeyAuthentication]
    permission_classes = [RequireRole("operator")]

    @extend_schema(
        tags=["Observability"],
        summary="Metrics in Prometheus' text format",
        description="With METRICS_TOKEN as bearer: all of them. With the key of an operator or admin: the gauges of that org.",
        responses={(200, "text/plain"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> HttpResponse:
        org_id = request.user.org_id
        families: list[Any] = list(gauges(looked_up(org_id=org_id, now=clock.now())))
        if not org_id:
            try:
                families += counted()
            except RedisDown:
                raise Unavailable("Redis, where the counters are, is away.") from None
        return HttpResponse(exposition(families), content_type=CONTENT_TYPE)


def looked_up(*, org_id: str, now: datetime) -> Found:
    """The gauges, of one org or (empty) of all: the biggest by name, the others together."""
    scope = {"org_id": org_id} if org_id else {}
    found: Found = defaultdict(dict)
    rows = Task.objects.filter(status__in=[status.value for status in OPEN], **scope).values_list("org_id", "status")
    for org, status, number in rows.annotate(number=Count("pk")).order_by():
        found[observe.TASKS_OPEN.name][(org, status)] = number
    waiting = Task.objects.filter(status=TaskStatus.QUEUED.value, **scope).values_list("org_id")
    for org, since in waiting.annotate(since=Min("queued_at")).order_by():
        found[observe.QUEUE_OLDEST.name][(org,)] = max(0.0, (now - since).total_seconds()) if since else 0.0
    jobs = Job.objects.filter(ended_at__isnull=True, **scope).values_list("org_id", "queue", "status")
    for org, queue, status, number in jobs.annotate(number=Count("pk")).order_by():
        found[observe.JOBS_OPEN.name][(org, queue, status)] = number
    wanted = Endpoint.objects.filter(enabled=True, **scope).values_list("pk", flat=True)
    # By endpoint: that is what the index of deliveries begins with.
    pending = Delivery.objects.filter(endpoint_id__in=list(wanted), state=PENDING).values_list("org_id")
    for org, number in pending.annotate(number=Count("pk")).order_by():
        found[observe.WEBHOOKS_PENDING.name][(org,)] = number
    return {name: _bounded(values, largest=name == observe.QUEUE_OLDEST.name) for name, values in found.items()}


def _bounded(values: dict[tuple[str, ...], float], *, largest: bool) -> dict[tuple[str, ...], float]:
    """Labels stay few: the ORGS_MAX orgs with the most keep their name. Of the rest: the largest, or the sum."""
    weight: dict[str, float] = defaultdict(float)
    for labels, number in values.items():
        weight[labels[0]] += number
    named = set(sorted(weight, key=lambda org: (-weight[org], org))[:ORGS_MAX])
    kept: dict[tuple[str, ...], float] = {}
    for labels, number in values.items():
        place = labels if labels[0] in named else (REST, *labels[1:])
        kept[place] = max(kept.get(place, 0.0), number) if largest else kept.get(place, 0.0) + number
    return kept
