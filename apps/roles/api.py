"""Roles and subjects over HTTP: the spec's two queries, and what an org admin needs to set an org up."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Invalid
from apps.core.http import answer, read_object
from apps.core.pages import page_of
from apps.core.schema import failures, problems
from apps.orgs.access import RequireRole
from apps.roles import queries, schema
from apps.roles.book import RoleBook, role_of, subject_of
from apps.roles.documents import read_role, read_subject, role_json, subject_json
from apps.roles.filters import AROUND, ON_FIELDS, BadFilter
from apps.roles.models import Role, Subject

TAG = ["Roles"]
PAGE = 100

_FILTER_HELP = (
    f"Takes {', '.join(f'`{name}`' for name in ON_FIELDS)} on the document's fields (paths such as `metadata.team` go into "
    f"`metadata`) and {', '.join(f'`{name}`' for name in AROUND)} around them, as MongoDB means them. Anything else is refused with "
    '400, by name. Filters compare literally: a document of every job space has `job_space_id` "".'
)


_AFTER = OpenApiParameter("after", str, description="`next` of the page before")


class RoleGroupQuery(APIView):
    permission_classes = [RequireRole("submitter")]

    @extend_schema(
        tags=TAG,
        summary="Query role-to-group mapping",
        description=_FILTER_HELP,
        request={"application/json": {"type": "object"}},
        responses={200: schema.RoleGroupAnswerSerializer, **failures(400, 413, 415)},
        examples=[OpenApiExample("scouts of a space", {"role_type": "SCOUTING", "job_space_id": "space-001"}, request_only=True)],
    )
    def post(self, request: Request) -> HttpResponse:
        return answer({"success": True, "data": queries.roles(request.user.org_id, _filter_in(request))})


class SubjectRolesQuery(APIView):
    permission_classes = [RequireRole("submitter")]

    @extend_schema(
        tags=TAG,
        summary="Query subject-to-role mapping",
        description=f"One document per subject and job space; inactive subjects are left out. {_FILTER_HELP}",
        request={"application/json": {"type": "object"}},
        responses={200: schema.SubjectRolesAnswerSerializer, **failures(400, 413, 415)},
        examples=[
            OpenApiExample("holders", {"role_ids": {"$in": ["scout-1", "scout-2"]}, "job_space_id": "space-001"}, request_only=True)
        ],
    )
    def post(self, request: Request) -> HttpResponse:
        return answer({"success": True, "data": queries.subject_roles(request.user.org_id, _filter_in(request))})


class RoleList(APIView):
    permission_classes = [RequireRole("submitter")]

    @extend_schema(
        tags=TAG,
        summary="List roles",
        parameters=[_AFTER],
        operation_id="list_roles",
        responses=schema.RolePageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        roles = Role.objects.filter(org_id=request.user.org_id, role_id__gt=_after(request)).order_by("role_id")
        page, following = page_of(roles.prefetch_related("groups"), PAGE, lambda role: role.role_id)
        return answer({"roles": [role_json(role) for role in page], "next": following})


class RoleDetail(APIView):
    permission_classes = [RequireRole("submitter", PUT="org_admin", DELETE="org_admin")]

    @extend_schema(tags=TAG, summary="Get a role", operation_id="get_role", responses={200: schema.RoleSerializer, **problems(404)})
    def get(self, request: Request, role_id: str) -> HttpResponse:
        return answer(role_json(role_of(request.user.org_id, role_id)))

    @extend_schema(
        tags=TAG,
        summary="Make or replace a role",
        request=schema.PutRoleSerializer,
        responses={200: schema.RoleSerializer, 201: schema.RoleSerializer, **problems(400, 413, 415, 422)},
    )
    def put(self, request: Request, role_id: str) -> HttpResponse:
        role, is_new = _book(request).put_role(role_id, read_role(role_id, read_object(request)))
        return answer(role, 201 if is_new else 200)

    @extend_schema(tags=TAG, summary="Delete a role; nobody holds it any more", responses={204: None, **problems(404)})
    def delete(self, request: Request, role_id: str) -> HttpResponse:
        _book(request).delete_role(role_id)
        return HttpResponse(status=204)


class SubjectList(APIView):
    permission_classes = [RequireRole("submitter")]

    @extend_schema(
        tags=TAG,
        summary="List subjects",
        parameters=[_AFTER],
        operation_id="list_subjects",
        responses=schema.SubjectPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        found = Subject.objects.filter(org_id=request.user.org_id, subject_id__gt=_after(request)).order_by("subject_id")
        page, following = page_of(found.prefetch_related("roles_held__role"), PAGE, lambda subject: subject.subject_id)
        return answer({"subjects": [subject_json(subject) for subject in page], "next": following})


class SubjectDetail(APIView):
    permission_classes = [RequireRole("submitter", PUT="org_admin", DELETE="org_admin")]

    @extend_schema(
        tags=TAG, summary="Get a subject", operation_id="get_subject", responses={200: schema.SubjectSerializer, **problems(404)}
    )
    def get(self, request: Request, subject_id: str) -> HttpResponse:
        return answer(subject_json(subject_of(request.user.org_id, subject_id)))

    @extend_schema(
        tags=TAG,
        summary="Make or replace a subject, with the roles it holds",
        description="All fields are optional; one left out gets its default (agent, active, no roles). Roles must exist.",
        request=schema.PutSubjectSerializer,
        responses={200: schema.SubjectSerializer, 201: schema.SubjectSerializer, **problems(400, 413, 415, 422)},
        examples=[OpenApiExample("an agent", {"capabilities": ["python"], "role_ids": ["scout-1"]}, request_only=True)],
    )
    def put(self, request: Request, subject_id: str) -> HttpResponse:
        document = read_subject(request.user.org_id, subject_id, read_object(request))
        subject, is_new = _book(request).put_subject(subject_id, document)
        return answer(subject, 201 if is_new else 200)

    @extend_schema(tags=TAG, summary="Delete a subject (its API keys stay: revoke them apart)", responses={204: None, **problems(404)})
    def delete(self, request: Request, subject_id: str) -> HttpResponse:
        _book(request).delete_subject(subject_id)
        return HttpResponse(status=204)


def _book(request: Request) -> RoleBook:
    return RoleBook(request.user.org_id, by=request.user.actor, now=clock.now())


def _filter_in(request: Request) -> dict[str, Any]:
    try:
        return read_object(request)
    except Invalid as invalid:
        raise BadFilter(invalid.problems) from None


def _after(request: Request) -> str:
    return request.query_params.get("after", "")
