"""Webhooks over HTTP: endpoints, their secrets, the log of what was sent to them, and sending it again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core import clock, ids
from apps.core.errors import Invalid, Problem
from apps.core.http import answer, optional_object, read_object
from apps.core.pages import page_of
from apps.core.schema import problems
from apps.orgs.access import OPERATOR, ORG_ADMIN, RequireRole
from apps.webhooks import schema
from apps.webhooks.book import OVERLAP_DEFAULT, OVERLAP_MAX, REPLAY_MAX, WebhookBook
from apps.webhooks.derive import span
from apps.webhooks.event_types import EVENTS
from apps.webhooks.models import PENDING, STATES, Attempt, Delivery, Endpoint

TAG = ["Webhooks"]
LIMIT_DEFAULT, LIMIT_MAX = 50, 200
ATTEMPTS_SHOWN = 100


class BadQuery(Invalid):
    status, code, sentence = 400, "bad_query", "The query string is not valid."


class WebhookView(APIView):
    permission_classes = [RequireRole(OPERATOR, POST=ORG_ADMIN, PATCH=ORG_ADMIN, DELETE=ORG_ADMIN)]

    @property
    def book(self) -> WebhookBook:
        return WebhookBook(org_id=self.request.user.org_id, by=self.request.user.actor, now=clock.now())


class Endpoints(WebhookView):
    @extend_schema(
        operation_id="list_webhooks", tags=TAG, summary="The webhook endpoints of your org", responses=schema.EndpointsSerializer
    )
    def get(self, request: Request) -> HttpResponse:
        return answer({"items": [endpoint_json(row) for row in self.book.all()]})

    @extend_schema(
        tags=TAG,
        summary="Make an endpoint; the answer shows its secret, this once",
        request=schema.EndpointWishSerializer,
        responses={201: schema.EndpointWithSecretSerializer, **problems(400, 409, 413, 415, 422)},
    )
    def post(self, request: Request) -> HttpResponse:
        row, secret = self.book.create(read_object(request))
        return answer({**endpoint_json(row), "secret": secret}, 201, {"Location": f"/api/v1/webhooks/{row.pk}"})


class OneEndpoint(WebhookView):
    @extend_schema(tags=TAG, summary="One endpoint", responses={200: schema.EndpointSerializer, **problems(404)})
    def get(self, request: Request, endpoint_id: str) -> HttpResponse:
        return answer(endpoint_json(self.book.get(endpoint_id)))

    @extend_schema(
        tags=TAG,
        summary="Change an endpoint",
        description="Enabled again, it is told what happens from then on; `replay` with a time brings what it missed.",
        request=schema.EndpointChangeSerializer,
        responses={200: schema.EndpointSerializer, **problems(400, 404, 413, 415, 422)},
    )
    def patch(self, request: Request, endpoint_id: str) -> HttpResponse:
        return answer(endpoint_json(self.book.change(endpoint_id, read_object(request))))

    @extend_schema(tags=TAG, summary="Delete an endpoint and its log", responses={204: None, **problems(404, 409)})
    def delete(self, request: Request, endpoint_id: str) -> HttpResponse:
        self.book.delete(endpoint_id)
        return HttpResponse(status=204)


class RotateSecret(WebhookView):
    @extend_schema(
        tags=TAG,
        summary="A new secret, shown this once; for a while both sign",
        request=schema.RotationSerializer,
        responses={200: schema.EndpointWithSecretSerializer, **problems(400, 404, 413, 415, 422)},
    )
    def post(self, request: Request, endpoint_id: str) -> HttpResponse:
        row, secret = self.book.rotate(endpoint_id, _overlap(_fields(request, {"overlap_s"})))
        return answer({**endpoint_json(row), "secret": secret})


class Ping(WebhookView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(
        tags=TAG,
        summary="Send a webhook.ping; look at the delivery to see what came of it",
        request=None,
        responses={202: schema.DeliverySerializer, **problems(404, 409)},
    )
    def post(self, request: Request, endpoint_id: str) -> HttpResponse:
        _fields(request, set())
        return answer(delivery_json(self.book.ping(endpoint_id)), 202)


class ReplaySince(WebhookView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(
        tags=TAG,
        summary="Send all that failed since a time again",
        request=schema.ReplaySerializer,
        responses={202: schema.ReplayedSerializer, **problems(400, 404, 409, 413, 415, 422)},
    )
    def post(self, request: Request, endpoint_id: str) -> HttpResponse:
        since, missed = _window(_known(read_object(request), {"since", "missed"}), self.book.now)
        return answer({"replayed": self.book.replay_since(endpoint_id, since, missed=missed)}, 202)


class Deliveries(WebhookView):
    @extend_schema(
        operation_id="list_webhook_deliveries",
        tags=TAG,
        summary="What was sent to an endpoint, newest first",
        parameters=[
            OpenApiParameter("state", str, enum=STATES),
            OpenApiParameter("event", str, enum=[*EVENTS, "webhook.ping"]),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str, description="`next_cursor` of a page"),
        ],
        responses={200: schema.DeliveriesSerializer, **problems(400, 404)},
    )
    def get(self, request: Request, endpoint_id: str) -> HttpResponse:
        endpoint = self.book.get(endpoint_id)
        rows, limit = _narrowed(endpoint, request.query_params)
        found, following = page_of(rows.defer("body"), limit, lambda row: row.pk.partition(":")[2])
        return answer({"items": [delivery_json(row) for row in found], "next_cursor": following})


class OneDelivery(WebhookView):
    @extend_schema(
        tags=TAG, summary="A delivery, with its body and every try", responses={200: schema.WholeDeliverySerializer, **problems(404)}
    )
    def get(self, request: Request, endpoint_id: str, delivery_id: str) -> HttpResponse:
        row = self.book.delivery(endpoint_id, delivery_id)
        tries = Attempt.objects.filter(delivery_id=row.pk).order_by("-number")[:ATTEMPTS_SHOWN]
        return answer({**delivery_json(row), "payload": orjson.loads(row.body), "attempts": [attempt_json(each) for each in tries]})


class Replay(WebhookView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(
        tags=TAG,
        summary="Send a delivery again, under the same id",
        request=None,
        responses={202: schema.DeliverySerializer, **problems(404, 409)},
    )
    def post(self, request: Request, endpoint_id: str, delivery_id: str) -> HttpResponse:
        _fields(request, set())
        return answer(delivery_json(self.book.replay(endpoint_id, delivery_id)), 202)


# ---- in and out -------------------------------------------------------------------------------------------


def endpoint_json(row: Endpoint) -> dict[str, Any]:
    return {
        "endpoint_id": row.pk,
        "url": row.url,
        "events": row.events,
        "description": row.description,
        "for_jobs": row.for_jobs,
        "enabled": row.enabled,
        "disabled_because": row.disabled_because,
        "failing_since": clock.iso(row.failing_since),
        "last_delivered_at": clock.iso(row.last_delivered_at),
        "old_secret_until": clock.iso(row.previous_until),
        "created_at": clock.iso(row.created_at),
        "updated_at": clock.iso(row.updated_at),
    }


def delivery_json(row: Delivery) -> dict[str, Any]:
    return {
        "delivery_id": row.pk,
        "event": row.event,
        "task_id": ids.split_task_key(row.task_key)[1] if row.task_key else None,
        "job_id": row.job_id or None,
        "state": row.state,
        "tries": row.tries,
        "next_try_at": clock.iso(row.due_at) if row.state == PENDING else None,
        "created_at": clock.iso(row.created_at),
        "ended_at": clock.iso(row.ended_at),
        "last_status": row.last_status,
        "last_error": row.last_error,
    }


def attempt_json(row: Attempt) -> dict[str, Any]:
    names = ("number", "duration_ms", "status", "excerpt", "error")
    return {"at": clock.iso(row.at), **{name: getattr(row, name) for name in names}}


def _fields(request: Request, known: set[str]) -> dict[str, Any]:
    """The body, or {} when there is none. Raises Invalid for what is not known."""
    return _known(optional_object(request), known)


def _known(body: dict[str, Any], known: set[str]) -> dict[str, Any]:
    if strange := [name for name in body if name not in known]:
        raise Invalid([Problem(field=name[:64], code="unknown", message="is not known here") for name in strange])
    return body


def _overlap(body: dict[str, Any]) -> timedelta:
    seconds = body.get("overlap_s", int(OVERLAP_DEFAULT.total_seconds()))
    most = int(OVERLAP_MAX.total_seconds())
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds <= most:
        raise Invalid([Problem(field="overlap_s", code="wrong", message=f"must be a whole number from 0 to {most}")])
    return timedelta(seconds=seconds)


def _window(body: dict[str, Any], now: datetime) -> tuple[datetime, bool]:
    wrong = []
    since, missed = body.get("since"), body.get("missed", False)
    try:
        at = datetime.fromisoformat(since) if isinstance(since, str) else None
        at = clock.from_ms(clock.to_ms(at)) if at and at.tzinfo else None
    except (ValueError, OverflowError):
        at = None
    if at is None:
        code = "wrong" if "since" in body else "missing"
        wrong.append(Problem(field="since", code=code, message="must be an ISO 8601 time with its zone"))
    elif not now - REPLAY_MAX <= at <= now:
        wrong.append(Problem(field="since", code="out_of_range", message=f"must lie in the last {REPLAY_MAX.days} days"))
    if not isinstance(missed, bool):
        wrong.append(Problem(field="missed", code="wrong_type", message="must be true or false"))
    if wrong or at is None:
        raise Invalid(wrong)
    return at, missed


def _narrowed(endpoint: Endpoint, params: Any) -> tuple[Any, int]:
    """The rows that a query string asks for, and how many at once. Raises BadQuery."""
    known = {"state": STATES, "event": (*EVENTS, "webhook.ping")}
    wrong = [
        Problem(field=name[:80], code="unknown", message="is not a filter") for name in params if name not in {*known, "limit", "cursor"}
    ]
    lookups = {}
    for name, values in known.items():
        if name in params:
            lookups[name] = params[name]
            if params[name] not in values:
                wrong.append(Problem(field=name, code="not_allowed", message=f"must be one of {', '.join(values)}"))
    text = params.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= LIMIT_MAX):
        wrong.append(Problem(field="limit", code="bad_value", message=f"must be a whole number from 1 to {LIMIT_MAX}"))
    cursor = params.get("cursor", "g")
    if "cursor" in params and not (len(cursor) == 32 and all(char in "0123456789abcdef" for char in cursor)):
        wrong.append(Problem(field="cursor", code="bad_value", message="is not one of ours"))
    if wrong:
        raise BadQuery(wrong)
    low, high = span(endpoint.pk, "", cursor)
    return Delivery.objects.filter(pk__gte=low, pk__lt=high, **lookups).order_by("-pk"), int(text)
