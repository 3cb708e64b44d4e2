"""Agents over HTTP: look at them, steer them, invite them, let them in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.agents import documents, enrolment, schema
from apps.agents.enrolment import EnrolmentDesk
from apps.agents.models import Enrolment
from apps.agents.records import AgentBook, NoSuchAgent, agents
from apps.agents.shapes import agents_json, enrolment_json
from apps.core import clock
from apps.core.errors import Forbidden, Unauthenticated
from apps.core.http import answer, optional_object, read_object
from apps.core.pages import page_of
from apps.core.schema import problems
from apps.orgs.access import AGENT, OPERATOR, SUBMITTER, ApiKeyAuthentication, RequireRole
from apps.roles.models import Subject

TAG = ["Agents"]
PAGE = [
    OpenApiParameter("limit", int, description=f"1…{documents.LIMIT_MAX}"),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before"),
]
REASON = schema.ReasonSerializer


class AgentList(APIView):
    permission_classes = [RequireRole(SUBMITTER)]

    @extend_schema(
        tags=TAG,
        operation_id="list_agents",
        summary="List agents: presence, load, card, breaker, reputation",
        parameters=PAGE,
        responses={200: schema.AgentPageSerializer, **problems(400)},
    )
    def get(self, request: Request) -> HttpResponse:
        limit, after = documents.read_page(request.query_params)
        org_id = request.user.org_id
        rows = agents(org_id).filter(subject_id__gt=after).order_by("subject_id")
        found, following = page_of(rows, limit, lambda subject: documents.cursor(subject.subject_id))
        return answer({"items": agents_json(org_id, found, now=clock.now()), "next_cursor": following})


class OneAgent(APIView):
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    @extend_schema(
        tags=TAG, operation_id="get_agent", summary="One agent", responses={200: schema.AgentSerializer, **problems(404)},
        description="An agent's own key may look at itself.",
    )  # fmt: skip
    def get(self, request: Request, subject_id: str) -> HttpResponse:
        return answer(_json(request, _agent(request, subject_id)))


class _Verb(APIView):
    """POST with an optional reason; answers the agent as it then is."""

    permission_classes = [RequireRole(OPERATOR, AGENT)]

    def steer(self, request: Request, subject_id: str, act: Callable[[AgentBook, str, str], Any]) -> HttpResponse:
        reason = documents.read_reason(optional_object(request))
        subject = _agent(request, subject_id)
        act(_book(request), subject.subject_id, reason)
        return answer(_json(request, subject))


def _docs(name: str, summary: str, *, answers: Any = schema.AgentSerializer) -> dict[str, Any]:
    responses = {200: answers, **problems(400, 404, 409, 413, 415, 422)}
    return {"tags": TAG, "operation_id": f"{name}_agent", "summary": summary, "request": REASON, "responses": responses}


class Pause(_Verb):
    @extend_schema(**_docs("pause", "Give it nothing new; what it has it finishes"))
    def post(self, request: Request, subject_id: str) -> HttpResponse:
        return self.steer(request, subject_id, AgentBook.pause)


class Resume(_Verb):
    @extend_schema(**_docs("resume", "Let it work again after a pause"))
    def post(self, request: Request, subject_id: str) -> HttpResponse:
        return self.steer(request, subject_id, AgentBook.resume)


class Drain(_Verb):
    @extend_schema(**_docs("drain", "Give it nothing new on its way out; `drained` once it has nothing left"))
    def post(self, request: Request, subject_id: str) -> HttpResponse:
        return self.steer(request, subject_id, AgentBook.drain)


class Undrain(_Verb):
    @extend_schema(**_docs("undrain", "Keep it after all"))
    def post(self, request: Request, subject_id: str) -> HttpResponse:
        return self.steer(request, subject_id, AgentBook.undrain)


class ResetBreaker(_Verb):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**_docs("reset_breaker_of", "Close its circuit breaker: what was until now is forgotten"))
    def post(self, request: Request, subject_id: str) -> HttpResponse:
        return self.steer(request, subject_id, AgentBook.reset_breaker)


class Revoke(_Verb):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**_docs("revoke", "Out at once: keys, connections, tasks", answers=schema.RevokedSerializer))
    def post(self, request: Request, subject_id: str) -> HttpResponse:
        reason = documents.read_reason(optional_object(request))
        subject = _agent(request, subject_id)
        done = _book(request).revoke(subject.subject_id, reason)
        return answer({**_json(request, subject), "keys_revoked": done.keys, "told_nats": done.told_nats})


# ---- enrolment --------------------------------------------------------------------------------------------


class Enrolments(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(
        tags=TAG,
        operation_id="list_enrolments",
        summary="List enrolments, newest first",
        parameters=PAGE,
        responses={200: schema.EnrolmentPageSerializer, **problems(400)},
    )
    def get(self, request: Request) -> HttpResponse:
        limit, after = documents.read_page(request.query_params)
        now = clock.now()
        rows = Enrolment.objects.filter(org_id=request.user.org_id).order_by("-created_at", "-pk")
        if after:
            last = rows.filter(pk=after).first()
            if last is None:
                raise documents.BadCursor()
            rows = rows.filter(created_at__lte=last.created_at).exclude(created_at=last.created_at, pk__gte=last.pk)
        found, following = page_of(rows, limit, lambda row: documents.cursor(row.pk))
        return answer({"items": [enrolment_json(row, now=now) for row in found], "next_cursor": following})

    @extend_schema(
        tags=TAG,
        operation_id="invite_agent",
        summary="Invite an agent: a token that works once, for a while",
        request=schema.InvitationSerializer,
        responses={201: schema.NewEnrolmentSerializer, **problems(400, 413, 415, 422)},
        examples=[OpenApiExample("a scout", {"subject_id": "ada", "role_ids": ["scouts"], "expires_in_s": 3600}, request_only=True)],
    )
    def post(self, request: Request) -> HttpResponse:
        wish, now = documents.read_invitation(read_object(request)), clock.now()
        made = EnrolmentDesk(request.user.org_id, by=request.user.actor, now=now).invite(wish)
        return answer({**enrolment_json(made.row, now=now), "token": made.printed}, 201)


class OneEnrolment(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(
        tags=TAG, operation_id="get_enrolment", summary="One enrolment", responses={200: schema.EnrolmentSerializer, **problems(404)}
    )
    def get(self, request: Request, enrolment_id: str) -> HttpResponse:
        now = clock.now()
        return answer(enrolment_json(EnrolmentDesk(request.user.org_id, by=request.user.actor, now=now).one(enrolment_id), now=now))

    @extend_schema(
        tags=TAG,
        operation_id="withdraw_enrolment",
        summary="Withdraw it: its token opens nothing any more",
        responses={200: schema.EnrolmentSerializer, **problems(404, 409)},
    )
    def delete(self, request: Request, enrolment_id: str) -> HttpResponse:
        now = clock.now()
        row = EnrolmentDesk(request.user.org_id, by=request.user.actor, now=now).withdraw(enrolment_id)
        return answer(enrolment_json(row, now=now))


class EnrolmentToken(BaseAuthentication):
    def authenticate(self, request: Any) -> tuple[Any, str] | None:
        scheme, _, printed = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer" or not printed.startswith("je_"):
            return None
        row = enrolment.verify(printed.strip(), now=clock.now())
        return row, row.pk

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"


class Redeem(APIView):
    """The one door that a token of an enrolment opens. It stands where an API key stands: in the Authorization header."""

    class TokenOnly(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:
            if isinstance(request.user, Enrolment):
                return True
            if request.user is None:
                raise Unauthenticated()
            if request.method == "POST":
                raise Forbidden("This takes the token of an enrolment, not an API key.")
            return True  # and goes on to hear that there is no such method

    authentication_classes = [EnrolmentToken, ApiKeyAuthentication]
    permission_classes = [TokenOnly]

    @extend_schema(
        tags=TAG,
        operation_id="redeem_enrolment",
        summary="Redeem a token for the agent's API key",
        description="The token goes into the Authorization header, as an API key would. It works once.",
        request=schema.RedeemSerializer,
        responses={201: schema.EnrolledSerializer, **problems(400, 401, 403, 409, 413, 415, 422)},
    )
    def post(self, request: Request) -> HttpResponse:
        card = documents.read_redemption(optional_object(request))
        done = enrolment.redeem(request.user, card=card, now=clock.now())
        body = {
            "org_id": done.enrolment.org_id,
            "subject_id": done.enrolment.subject_id,
            "api_key": done.key.printed,
            "key_id": done.key.row.key_id,
            "expires_at": clock.iso(done.key.row.expires_at),
            "nats_url": nats_url(),
        }
        return answer(body, 201)


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = EnrolmentToken
    name = "EnrolmentToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "The token of an enrolment."}


def nats_url() -> str:
    """Where agents connect: as configured, without whatever credentials stand in it."""
    found = []
    for url in (settings.NATS_PUBLIC_URL or settings.NATS_URL).split(","):
        parts = urlsplit(url.strip())
        found.append(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    return ",".join(found)


def _agent(request: Request, subject_id: str) -> Subject:
    """The org's agent; to an agent's own key all others are as missing as those of another org."""
    found = agents(request.user.org_id).filter(subject_id=subject_id).first()
    if found is None or (request.user.role == AGENT and request.user.subject_id != subject_id):
        raise NoSuchAgent()
    return found


def _book(request: Request) -> AgentBook:
    return AgentBook(request.user.org_id, by=request.user.actor, now=clock.now(), own=request.user.role == AGENT)


def _json(request: Request, subject: Subject) -> dict[str, Any]:
    return agents_json(request.user.org_id, [subject], now=clock.now())[0]
