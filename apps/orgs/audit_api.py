"""The audit trail over HTTP: a list, and exports for whoever keeps it elsewhere. For the org's admins."""

from __future__ import annotations

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core.errors import Problem
from apps.core.http import answer
from apps.core.schema import problems
from apps.orgs import schema
from apps.orgs.access import RequireRole
from apps.orgs.audit_listing import AuditQuery, BadQuery, as_csv, ndjson
from apps.orgs.models import Change

TAG = ["Audit"]
FILTERS = [
    OpenApiParameter("kind", str, many=True, enum=Change.Kind.values, description="may be repeated, or a list with commas"),
    OpenApiParameter("key", str, description="what was changed: a config key, or the id of a role, key, webhook, task …"),
    OpenApiParameter("by", str, description="who did it, as the lines say it"),
    OpenApiParameter("since", str, description="ISO 8601, at or after"),
    OpenApiParameter("until", str, description="ISO 8601, before"),
]
FORMATS = {"ndjson": (ndjson, "application/x-ndjson"), "csv": (as_csv, "text/csv; charset=utf-8")}


class Audit(APIView):
    permission_classes = [RequireRole("org_admin")]

    @extend_schema(
        tags=TAG,
        summary="Who changed what, newest first",
        parameters=[*FILTERS, OpenApiParameter("limit", int), OpenApiParameter("cursor", str, description="`next_cursor` of a page")],
        responses={200: schema.AuditPageSerializer, **problems(400, 403)},
    )
    def get(self, request: Request) -> HttpResponse:
        items, following = AuditQuery.of(request.query_params).page(request.user.org_id)
        return answer({"items": items, "next_cursor": following})


class AuditExport(APIView):
    permission_classes = [RequireRole("org_admin")]

    @extend_schema(
        tags=TAG,
        summary="All lines that match, as NDJSON or CSV",
        description="In CSV, cells that a spreadsheet would take for a formula begin with an apostrophe.",
        parameters=[*FILTERS, OpenApiParameter("format", str, enum=list(FORMATS), description="default: ndjson")],
        responses={(200, "application/x-ndjson"): OpenApiTypes.STR, (200, "text/csv"): OpenApiTypes.STR, **problems(400, 403)},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        wanted = request.query_params.get("format", "ndjson")
        if wanted not in FORMATS:
            raise BadQuery([Problem(field="format", code="not_allowed", message=f"must be one of {', '.join(FORMATS)}")])
        query = AuditQuery.of(request.query_params, others=frozenset({"format"}))
        write, content_type = FORMATS[wanted]
        headers = {"Content-Disposition": f'attachment; filename="audit.{wanted}"'}
        return StreamingHttpResponse(write(query.rows(request.user.org_id)), content_type=content_type, headers=headers)
