"""The configuration of an org over HTTP: the spec's two endpoints, and the whole table."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Invalid, Problem
from apps.core.http import answer, read_object
from apps.core.schema import failures, problems
from apps.orgs import schema
from apps.orgs.access import RequireRole
from apps.orgs.config_keys import TABLE, find
from apps.orgs.config_store import NotSet, OrgConfigProvider
from apps.orgs.models import Org

TAG = ["Configuration"]
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description='only over this version, as the ETag says it: `"3"`; else 409'
)
_ETAG = re.compile(r'"?([0-9]{1,9})"?')


class ConfigParameter(APIView):
    """Another org's id answers exactly like one that does not exist."""

    permission_classes = [RequireRole("submitter", POST="org_admin")]

    @extend_schema(
        tags=TAG,
        summary="Get org configuration parameter",
        responses={200: schema.ConfigValueSerializer, **failures(404)},
        examples=[OpenApiExample("set", {"success": True, "key": "agent_resolution_strategy", "value": "auction", "version": 2})],
    )
    def get(self, request: Request, org_id: str, key: str) -> HttpResponse:
        _own_org(request, org_id, key)
        row = OrgConfigProvider().parameter(org_id, key)
        body = {"success": True, "key": key, "value": TABLE[key].shown(row.value), "version": row.version}
        return answer(body, headers={"ETag": f'"{row.version}"'})

    @extend_schema(
        tags=TAG,
        summary="Set org configuration parameter",
        parameters=[IF_MATCH],
        request=schema.SetConfigValueSerializer,
        responses={200: schema.ConfigSetSerializer, **failures(400, 404, 409, 413, 415, 422, 503)},
        examples=[OpenApiExample("set", {"value": "plan+retrieve"}, request_only=True)],
    )
    def post(self, request: Request, org_id: str, key: str) -> HttpResponse:
        _own_org(request, org_id, key)
        find(key)
        value, if_version = _wanted(read_object(request), _if_match(request))
        version = OrgConfigProvider().set(org_id, key, value, by=request.user.actor, now=clock.now(), if_version=if_version)
        return answer({"success": True, "version": version})


class ConfigTable(APIView):
    permission_classes = [RequireRole("submitter")]

    @extend_schema(
        tags=TAG,
        summary="Every configuration key: type, default, meaning, and your org's value",
        responses=schema.ConfigTableSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        org = Org.objects.prefetch_related("parameters").get(pk=request.user.org_id)
        rows = {row.key: row for row in org.parameters.all()}
        return answer(
            {
                "org_id": org.pk,
                "version": org.config_version,
                "parameters": [
                    {
                        "key": key.name,
                        "type": key.rule.type,
                        "schema": key.rule.schema(),
                        "default": key.default,
                        "meaning": key.meaning,
                        "value": key.shown(row.value) if (row := rows.get(key.name)) else key.default,
                        "is_set": row is not None,
                        "version": row.version if row else 0,
                        "changed_at": clock.iso(row.changed_at) if row else None,
                        "changed_by": row.changed_by if row else None,
                    }
                    for key in TABLE.values()
                ],
            }
        )


class ConfigDefault(APIView):
    permission_classes = [RequireRole("org_admin")]

    @extend_schema(
        tags=TAG, summary="Back to the default", parameters=[IF_MATCH], responses={204: None, **problems(404, 409, 422, 503)}
    )
    def delete(self, request: Request, key: str) -> HttpResponse:
        find(key)
        if_version = _if_match(request)
        OrgConfigProvider().unset(request.user.org_id, key, by=request.user.actor, now=clock.now(), if_version=if_version)
        return HttpResponse(status=204)


def _own_org(request: Request, org_id: str, key: str) -> None:
    if org_id != request.user.org_id:
        raise NotSet(org_id, key)


def _if_match(request: Request) -> int | None:
    """The version that If-Match names. `*` is any."""
    given = request.headers.get("If-Match", "").strip()
    if given in ("", "*"):
        return None
    found = _ETAG.fullmatch(given)
    if found is None:
        raise Invalid([Problem(field="If-Match", code="wrong", message='must be one version, such as "3"')])
    return int(found[1])


def _wanted(body: dict[str, Any], if_match: int | None) -> tuple[Any, int | None]:
    """(value, version to replace)."""
    problems = [Problem(field=name[:64], code="unknown", message="is not known here") for name in body if name not in ("value", "version")]
    if "value" not in body:
        problems.append(Problem(field="value", code="missing", message="is required"))
    version = body.get("version")
    if "version" in body and (not isinstance(version, int) or isinstance(version, bool) or version < 0):
        problems.append(Problem(field="version", code="wrong_type", message="must be a whole number, 0 or more"))
    if version is not None and if_match not in (None, version):
        problems.append(Problem(field="version", code="conflict", message="differs from If-Match"))
    if problems:
        raise Invalid(problems)
    return body["value"], if_match if version is None else version
