"""Context documents over HTTP: what sessions of an org may look up."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Invalid, Problem
from apps.core.http import answer, read_object
from apps.core.schema import problems
from apps.orgs.access import OPERATOR, SUBMITTER, RequireRole
from apps.workflows.api import context_docs as schema
from apps.workflows.context.context_info import document_json, hit_json, read_drafts
from apps.workflows.context.documents import COLLECTION, KEY_MAX, LIMIT_DEFAULT, LIMIT_MAX, Documents, NoSuchDocument

TAG = ["Context"]
SEARCH_DEFAULT = 10


class BadQuery(Invalid):
    status, code, sentence = 400, "bad_query", "The query string is not valid."


class ContextView(APIView):
    permission_classes = [RequireRole(SUBMITTER, PUT=OPERATOR, DELETE=OPERATOR)]

    @property
    def documents(self) -> Documents:
        return Documents(self.request.user.org_id)


class Collections(ContextView):
    @extend_schema(
        operation_id="list_context_collections",
        tags=TAG,
        summary="Your collections, with how many documents each has",
        responses=schema.ContextCollectionsSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        return answer({"items": [{"collection": name, "documents": size} for name, size in self.documents.collections().items()]})


class Collection(ContextView):
    permission_classes = [RequireRole(SUBMITTER, POST=OPERATOR)]

    @extend_schema(
        operation_id="list_context_documents",
        tags=TAG,
        summary="The documents of a collection, in the order of keys",
        parameters=[OpenApiParameter("after", str, description="`next` of the page before"), OpenApiParameter("limit", int)],
        responses={200: schema.ContextPageSerializer, **problems(400, 404)},
    )
    def get(self, request: Request, collection: str) -> HttpResponse:
        after, limit = _page(request.query_params)
        return answer(page_json(self.documents.list(_named(collection), after=after, limit=limit)))

    @extend_schema(
        tags=TAG,
        summary="Put many documents: all of them, or none when one is not valid",
        request=schema.ContextSeedSerializer,
        responses={200: schema.ContextSeededSerializer, **problems(400, 404, 409, 413, 415, 422, 503)},
    )
    def post(self, request: Request, collection: str) -> HttpResponse:
        body = _known(read_object(request), {"documents"}, ("documents",))
        drafts = read_drafts("documents", body["documents"])
        new = self.documents.put_many(collection, drafts, by=request.user.actor, now=clock.now(), where="documents")
        return answer({"stored": len(drafts), "new": len(new)})


class Query(ContextView):
    @extend_schema(
        tags=TAG,
        summary="Documents that match a filter, in the order of keys",
        description="A page may be short, or empty, and have a `next`: each looks at 5,000 documents at most.",
        request=schema.ContextQuerySerializer,
        responses={200: schema.ContextPageSerializer, **problems(400, 404, 413, 415, 422)},
        examples=[OpenApiExample("of a team", {"filter": {"value.team": "blue"}}, request_only=True)],
    )
    def post(self, request: Request, collection: str) -> HttpResponse:
        body = _known(read_object(request), {"filter", "after", "limit"})
        after = _text(body, "after")
        limit = _limit(body, LIMIT_DEFAULT)
        return answer(page_json(self.documents.find(_named(collection), body.get("filter", {}), after=after, limit=limit)))


class Search(ContextView):
    @extend_schema(
        tags=TAG,
        summary="The documents nearest to a text or a vector",
        request=schema.ContextSearchSerializer,
        responses={200: schema.ContextHitsSerializer, **problems(400, 404, 413, 415, 422, 503)},
        examples=[OpenApiExample("by text", {"text": "leaking boilers", "limit": 3}, request_only=True)],
    )
    def post(self, request: Request, collection: str) -> HttpResponse:
        body = _known(read_object(request), {"text", "vector", "filter", "limit"})
        if ("text" in body) == ("vector" in body):
            raise Invalid([Problem(field="text", code="missing", message="give text, or vector, and not both")])
        wanted = _text(body, "text") if "text" in body else body["vector"]
        if "vector" in body and not isinstance(wanted, list):
            raise Invalid([Problem(field="vector", code="wrong_type", message="must be a list of numbers")])
        limit = _limit(body, SEARCH_DEFAULT)
        hits = self.documents.search(_named(collection), wanted, limit=limit, filter=body.get("filter"))
        return answer({"items": [hit_json(hit) for hit in hits]})


class One(ContextView):
    @extend_schema(
        tags=TAG,
        summary="A document",
        operation_id="get_context_document",
        responses={200: schema.ContextDocumentSerializer, **problems(404)},
    )
    def get(self, request: Request, collection: str, key: str) -> HttpResponse:
        return answer(document_json(self.documents.get(collection, key)))

    @extend_schema(
        tags=TAG,
        summary="Make or replace a document",
        request=schema.PutContextDocumentSerializer,
        responses={
            200: schema.ContextDocumentSerializer,
            201: schema.ContextDocumentSerializer,
            **problems(400, 409, 413, 415, 422, 503),
        },
        examples=[OpenApiExample("a note", {"value": {"team": "blue"}, "text": "the boiler leaks"}, request_only=True)],
    )
    def put(self, request: Request, collection: str, key: str) -> HttpResponse:
        body = _known(read_object(request), {"value", "text", "vector"}, ("value",))
        fields = {"text": _text(body, "text"), "vector": body.get("vector")}
        document, is_new = self.documents.put(collection, key, body["value"], **fields, by=request.user.actor, now=clock.now())
        return answer(document_json(document), 201 if is_new else 200)

    @extend_schema(tags=TAG, summary="Delete a document", responses={204: None, **problems(404, 503)})
    def delete(self, request: Request, collection: str, key: str) -> HttpResponse:
        self.documents.delete(collection, key)
        return HttpResponse(status=204)


def page_json(page: Any) -> dict[str, Any]:
    return {"items": [document_json(document) for document in page.documents], "next": page.following}


def _named(collection: str) -> str:
    """A name that no collection can have is a collection that is not there."""
    if not COLLECTION.fullmatch(collection):
        raise NoSuchDocument("There is no such collection.")
    return collection


def _known(body: dict[str, Any], known: set[str], required: tuple[str, ...] = ()) -> dict[str, Any]:
    wrong = [Problem(field=name[:64], code="unknown", message="is not known here") for name in body if name not in known]
    wrong += [Problem(field=name, code="missing", message="is required") for name in required if name not in body]
    if wrong:
        raise Invalid(wrong)
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Invalid([Problem(field=name, code="wrong_type", message="must be a string")])
    return value


def _limit(body: dict[str, Any], default: int) -> int:
    value = body.get("limit", default)
    if type(value) is not int or not 1 <= value <= LIMIT_MAX:
        raise Invalid([Problem(field="limit", code="bad_value", message=f"must be a whole number from 1 to {LIMIT_MAX}")])
    return value


def _page(params: Any) -> tuple[str, int]:
    """Raises BadQuery."""
    wrong = [Problem(field=name[:80], code="unknown", message="is not known here") for name in params if name not in ("after", "limit")]
    after, text = params.get("after", ""), params.get("limit", str(LIMIT_DEFAULT))
    if len(after) > KEY_MAX:
        wrong.append(Problem(field="after", code="bad_value", message=f"must have at most {KEY_MAX} characters"))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= LIMIT_MAX):
        wrong.append(Problem(field="limit", code="bad_value", message=f"must be a whole number from 1 to {LIMIT_MAX}"))
    if wrong:
        raise BadQuery(wrong)
    return after, int(text)
