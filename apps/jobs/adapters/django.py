"""Plain Django: views of classes, synchronous and async."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from django.conf import settings
from django.contrib.auth.mixins import LoginRequiredMixin, PermissionRequiredMixin, UserPassesTestMixin
from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.request import RawPostDataException
from django.urls import Resolver404, resolve
from django.utils.datastructures import MultiValueDict
from django.views.generic import View

from apps.core import http
from apps.core.errors import Forbidden, Malformed, TooLarge, UnsupportedMedia
from apps.core.streaming import Stream, as_async, closing
from apps.core.strict_json import Limits, parse_json
from apps.jobs.adapters.base import Adapter, Asked, fresh
from apps.jobs.answers import Answer
from apps.jobs.files import as_uploads
from apps.jobs.snapshot import RequestSnapshot, allowed_headers

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_STREAM_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}


class JobRequest(HttpRequest):
    """The request of a job in its worker. `data` is the parsed body, as in Django REST framework."""

    def __init__(self, snapshot: RequestSnapshot, user: Any) -> None:
        super().__init__()
        self.method, self.path, self.path_info = snapshot.method, snapshot.path, snapshot.path
        self._job_scheme = snapshot.scheme
        self.META = {
            "REQUEST_METHOD": snapshot.method,
            "PATH_INFO": snapshot.path,
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in snapshot.headers.items()},
        }
        if snapshot.host:
            self.META["HTTP_HOST"] = snapshot.host
        self.GET = query_dict(snapshot.query)
        self.META["QUERY_STRING"] = self.GET.urlencode()
        self.META["CONTENT_TYPE"] = self.META.pop("HTTP_CONTENT_TYPE", "application/json")
        self._set_content_type_params(self.META)
        self.FILES = as_uploads(snapshot.files)
        self.POST = query_dict(snapshot.data) if snapshot.is_form else QueryDict()
        self.data = self.POST if snapshot.is_form else snapshot.data
        self._body = b"" if snapshot.is_form or snapshot.data is None else orjson.dumps(snapshot.data)
        self._files = self.FILES  # what HttpRequest.close() closes
        self.user = AnonymousUser() if user is None else user
        try:
            self.resolver_match = resolve(self.path_info)
        except Resolver404:
            self.resolver_match = None

    @property
    def query_params(self) -> QueryDict:
        return self.GET

    async def auser(self) -> Any:
        return self.user

    def _get_scheme(self) -> str:
        return self._job_scheme


class DjangoAdapter(Adapter):
    kind = "django"
    same_thread = True

    def takes(self, value: Any) -> bool:
        return isinstance(value, HttpRequest)

    def query(self, request: Any, name: str) -> str | None:
        return request.GET.get(name)

    def path(self, request: Any) -> str:
        return request.path

    def header(self, request: Any, name: str) -> str:
        return request.headers.get(name, "")

    def read(self, view: Any, request: Any, loaded: Any) -> Asked:
        check_length(request)
        data, is_form = body_of(request)
        files = request.FILES if request.content_type == "multipart/form-data" else MultiValueDict()
        return asked(self.kind, view, request, data=data, is_form=is_form, files=files, user=self.user(request))

    def respond(self, view: Any, request: Any, answer: Answer) -> HttpResponse:
        if answer.body is None and answer.status == 304:
            return HttpResponse(status=304, headers=answer.headers)
        return http.answer(answer.body, answer.status, answer.headers)

    def stream(self, request: Any, chunks: Stream) -> StreamingHttpResponse:
        base = getattr(request, "_request", request)
        content = as_async(chunks) if isinstance(base, ASGIRequest) else closing(chunks)
        return StreamingHttpResponse(content, content_type="text/event-stream", headers=_STREAM_HEADERS)

    def not_allowed(self, view: Any, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if refuse := getattr(view, "http_method_not_allowed", None):
            return refuse(request, *args, **kwargs)
        return super().not_allowed(view, request, args, kwargs)

    def rebuild(self, owner_class: type | None, snapshot: RequestSnapshot, user: Any) -> tuple[Any, Any]:
        request = JobRequest(snapshot, user)
        view = fresh(owner_class, **initkwargs(owner_class, request))
        if isinstance(view, View):
            view.setup(request, *snapshot.view_args, **captured(request, snapshot.view_kwargs))
        return view, request

    def permit(self, view: Any, request: Any) -> None:
        """What Django's mixins ask before they dispatch."""
        refused = (
            (isinstance(view, LoginRequiredMixin) and not request.user.is_authenticated)
            or (isinstance(view, PermissionRequiredMixin) and not view.has_permission())
            or (isinstance(view, UserPassesTestMixin) and not view.get_test_func()())
        )
        if refused:
            raise Forbidden("The user of this job may not do that.")
        super().permit(view, request)

    def typed(self, request: Any, name: str, value: Any) -> Any:
        return captured(request, {name: value})[name]

    def result(self, value: Any) -> tuple[Any, int | None]:
        if not isinstance(value, HttpResponse):
            return value, None
        if not value.content:
            return None, value.status_code
        if "json" in value.get("Content-Type", ""):
            return orjson.loads(value.content), value.status_code
        return value.content.decode(value.charset), value.status_code


def check_length(request: HttpRequest) -> None:
    """Before the body is read. Raises TooLarge, Malformed."""
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if not (announced.isascii() and announced.isdigit()):
        raise Malformed("Content-Length is not a number.")
    files = request.content_type == "multipart/form-data"
    limit = settings.JOBS_MAX_REQUEST_BYTES + (settings.JOBS_MAX_UPLOAD_BYTES if files else 0)
    if int(announced) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.", limit=limit)


def body_of(request: HttpRequest) -> tuple[Any, bool]:
    """(data, whether it is a form)."""
    if request.content_type in FORMS:
        return dict(request.POST.lists()), True
    try:
        body = request.body
    except RawPostDataException:
        return None, False  # the view has read it as a stream; what the job needs of it must be an argument
    if not body:
        return None, False
    if request.content_type != "application/json":
        raise UnsupportedMedia("The body must be application/json or a form.")
    limit = settings.JOBS_MAX_REQUEST_BYTES
    return parse_json(body, Limits(body=limit, string=limit)), False


def asked(kind: str, view: Any, request: HttpRequest, *, data: Any, is_form: bool, files: MultiValueDict, user: Any) -> Asked:
    snapshot = RequestSnapshot(
        kind=kind,
        method=request.method or "POST",
        scheme=request.scheme or "http",
        host=request.get_host(),
        path=request.path,
        query=dict(request.GET.lists()),
        headers=allowed_headers(request.headers.items()),
        data=data,
        is_form=is_form,
        view_args=list(getattr(view, "args", ())),
        view_kwargs=dict(getattr(view, "kwargs", {})),
    )
    return Asked(snapshot=snapshot, uploads=[(name, each) for name in files for each in files.getlist(name)], user=user)


def query_dict(values: Mapping[str, Sequence[str]]) -> QueryDict:
    found = QueryDict(mutable=True)
    for name, each in values.items():
        found.setlist(name, list(each))
    found._mutable = False
    return found


def initkwargs(owner_class: type | None, request: JobRequest) -> dict[str, Any]:
    """What the URL table gave `as_view()`, when the path still leads to this class."""
    view = getattr(request.resolver_match, "func", None)
    if owner_class is None or owner_class not in (getattr(view, "view_class", None), getattr(view, "cls", None)):
        return {}
    return dict(getattr(view, "view_initkwargs", None) or getattr(view, "initkwargs", None) or {})


def captured(request: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """`kwargs` with the URL's own values (a UUID, a number) for those that are their text."""
    own = getattr(request.resolver_match, "captured_kwargs", None) or {}
    return {name: own[name] if name in own and str(own[name]) == str(value) else value for name, value in kwargs.items()}
