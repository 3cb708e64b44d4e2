"""`GET /health`: may this process be given requests? Says nothing else to strangers."""

from __future__ import annotations

import logging

from django.db import Error
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from apps.orgs.models import Org
from apps.tasks.models import Task

log = logging.getLogger(__name__)


@never_cache
@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    """200 when both stores answer, else 503. Redis and NATS may be away: work is still accepted then."""
    try:
        for model in (Org, Task):
            model.objects.filter(pk="").exists()
    except Error as error:
        log.warning("health.database_away", extra={"error": str(error)})
        return JsonResponse({"status": "unavailable"}, status=503)
    return JsonResponse({"status": "ok"})
