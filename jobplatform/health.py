"""`GET /health`: may this process be given requests? `GET /ready`: is all it needs there? Strangers are told nothing else."""

from __future__ import annotations

import logging

from django.db import Error
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from apps.core import redis
from apps.messaging.connection import wire
from apps.orgs.models import Org
from apps.tasks.models import Task

log = logging.getLogger(__name__)

NATS_SECONDS = 1.0
"""A process that has just started is given this long to connect."""


@never_cache
@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    """200 when both stores answer, else 503. Redis and NATS may be away: work is still accepted then."""
    return JsonResponse({"status": "ok"}) if _stores_answer() else JsonResponse({"status": "unavailable"}, status=503)


def _stores_answer() -> bool:
    try:
        for model in (Org, Task):
            model.objects.filter(pk="").exists()
    except Error as error:
        log.warning("health.database_away", extra={"error": str(error)})
        return False
    return True


@never_cache
@require_GET
def ready(_request: HttpRequest) -> JsonResponse:
    """200 when everything it needs answers, else 503; the body says which does."""
    found = {"database": _stores_answer(), "redis": _redis_answers(), "nats": wire().healthy() or wire().wait_up(NATS_SECONDS)}
    return JsonResponse({"ready": all(found.values()), **found}, status=200 if all(found.values()) else 503)


def _redis_answers() -> bool:
    try:
        return bool(redis.client().ping())
    except redis.RedisDown:
        return False
