"""Views whose methods are jobs, one of each framework. They run when a test says `backend.run_all()`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404, JsonResponse
from django.views.generic import View
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ParseError, PermissionDenied, Throttled, ValidationError
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.response import Response
from rest_framework.serializers import CharField, IntegerField, Serializer
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from apps.core.errors import Forbidden, Invalid, Problem
from apps.jobs import JobManagerMixin, as_job
from apps.jobs.backends.memory import MemoryBackend
from apps.jobs.openapi import JobCreated
from apps.orgs.access import RequireRole

backend = MemoryBackend(threads=0)
eager = MemoryBackend(threads=1)


def seen(request: Any) -> dict[str, Any]:
    """What a method finds in its request."""
    return {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query_params.lists()),
        "data": {name: request.data.getlist(name) for name in request.POST} if request.POST else request.data,
        "headers": {name.lower(): value for name, value in request.headers.items()},
        "url": request.build_absolute_uri(),
    }


class Wish(Serializer):
    words = CharField()
    times = IntegerField(min_value=1, default=1)


class MayHelp(ParseError):
    retry_helps = True


RAISED = {
    "serializer": lambda: Wish(data={"times": 0}).is_valid(raise_exception=True),  # raises it itself
    "field": lambda: ValidationError({"paper": {"pages": ["too many", "too long"]}}),
    "django": lambda: DjangoValidationError({"age": DjangoValidationError("not yet %(n)s", code="young", params={"n": 18})}),
    "denied": PermissionDenied,
    "gone": lambda: NotFound("There is no such paper."),
    "404": lambda: Http404("no such page"),
    "busy": Throttled,
    "passing": MayHelp,
    "ours": lambda: Invalid([Problem(field="a", code="wrong", message="is wrong")]),
}


class Documents(JobManagerMixin, APIView):
    permission_classes = [RequireRole("submitter")]
    parser_classes = [JSONParser, MultiPartParser, FormParser]
    job_manager = backend

    @JobManagerMixin.as_job(queue="embeddings", timeout=60)
    def post(self, request, **kwargs):
        """Reads documents."""
        self.update_progress(50, "half way")
        files = {name: [each.name, each.read().decode(), each.sha256[:8]] for name, each in request.FILES.items()}
        return Response({**seen(request), "files": files, "user": request.user.key_id, **kwargs}, status=201)

    @extend_schema(request=Wish, responses={202: JobCreated})
    def put(self, request, **kwargs):
        return self.vectorize(request)

    @JobManagerMixin.as_job(queue="rag", accepts=Wish)
    def vectorize(self, request) -> dict[str, str]:
        return {"vectors": request.data["words"]}

    @as_job(return_job_id=False)
    async def patch(self, request, **kwargs):
        await asyncio.sleep(0)
        if request.data.get("fail"):
            raise ValueError("no such thing")
        if name := request.data.get("raise"):
            raise RAISED[name]()
        return Response({"patched": request.data}, status=202 if request.data.get("later") else 200)


class Tried(Documents):
    def patch(self, request, **kwargs):
        with self.job_options(retries=1, return_job_id=True):
            return super().patch(request)


class Eager(Documents):
    job_manager = eager


class WithOwnGet(APIView, JobManagerMixin):
    permission_classes = [RequireRole("submitter")]
    job_manager = backend

    @extend_schema(responses={200: Wish})
    def get(self, request, pk):
        return Response({"own": str(pk), "type": type(pk).__name__})

    @as_job(retries=2, priority="high", unique_key=lambda request: request.data["key"])
    def post(self, request, pk) -> dict[str, str]:
        return {"pk": str(pk), "type": type(pk).__name__, "view": type(self.kwargs["pk"]).__name__}


class Overriding(Documents):
    """Looks first, then hands over to the job of its parent."""

    def post(self, request, **kwargs):
        if "refuse" in request.data:
            return Response({"refused": True}, status=400)
        return super().post(request, **kwargs)


class Again(Documents):
    """A job of its own that has its parent's as a part."""

    @as_job(queue="slow")
    def post(self, request, **kwargs):
        return {"parent": super().post(request, **kwargs).data["data"], "class": type(self).__name__}


class Shelf(JobManagerMixin, ViewSet):
    permission_classes = [RequireRole("submitter")]
    job_manager = backend
    label, lookup_value_converter = "none", "str"

    @extend_schema(responses={200: Wish})
    def list(self, request):
        return Response({"shelf": self.label})

    @as_job
    def create(self, request):
        return {"created": request.data, "label": self.label, "action": self.action}

    @action(detail=True, methods=["post"])
    @as_job(queue="fast")
    def sort(self, request, pk: str):
        return {"sorted": pk}


class Plain(JobManagerMixin, View):
    job_manager = backend
    http_method_names = ["get", "post", "delete", "head"]

    @as_job
    def post(self, request):
        return JsonResponse({**seen(request), "body": json.loads(request.body or b"null"), "user": str(request.user)}, status=201)


class Members(LoginRequiredMixin, JobManagerMixin, View):
    raise_exception = True
    job_manager = backend

    @as_job
    def post(self, request):
        return {"user": request.user.username}


class AsyncPlain(JobManagerMixin, View):
    job_manager = backend

    @as_job
    async def post(self, request):
        user = await request.auser()
        return {"data": request.data, "user": str(user)}


class Hooked(JobManagerMixin, View):
    """Its own permissions, without a framework for them."""

    job_manager = backend
    closed = False

    def check_permissions(self, request):
        if type(self).closed:
            raise Forbidden("Closed.")

    @as_job
    def post(self, request):
        return {"open": True}


@as_job
def function_view(request):
    return {"words": len(request.data["text"].split())}


class Worker(JobManagerMixin):
    job_manager = backend

    @as_job
    def double(self, number: int, *, plus: int = 0):
        return number * 2 + plus

    @as_job(depends_on=lambda request: request.data["after"])
    def later(self, request):
        return "later"


class WithoutArguments(JobManagerMixin):
    job_manager = backend

    def __init__(self, store):
        self.store = store

    @classmethod
    def for_job(cls):
        return cls({"made": "in the worker"})

    @as_job
    def read(self):
        return self.store


@as_job(queue="fast")
def triple(number):
    return number * 3
