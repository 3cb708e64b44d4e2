"""FastAPI (and Starlette): requests that are awaited. `apps.jobs.fastapi` makes routes of classes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import orjson
from anyio import NoEventLoopError, from_thread
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from starlette.datastructures import FormData, ImmutableMultiDict
from starlette.datastructures import UploadFile as StarletteUpload
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from apps.core.errors import Malformed, TooLarge, UnsupportedMedia
from apps.core.streaming import Stream, as_async
from apps.core.strict_json import Limits, parse_json
from apps.jobs.adapters.base import Adapter, Asked, fresh
from apps.jobs.answers import Answer
from apps.jobs.files import as_uploads
from apps.jobs.snapshot import RequestSnapshot, allowed_headers

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class JobRequest(Request):
    """A Starlette request in the worker, with its body already parsed in `data` and the uploads in `FILES`."""

    def __init__(self, snapshot: RequestSnapshot, user: Any) -> None:
        body = b"" if snapshot.is_form or snapshot.data is None else orjson.dumps(snapshot.data)
        query = ImmutableMultiDict([(name, value) for name, values in snapshot.query.items() for value in values])
        headers = {**snapshot.headers, **({"host": snapshot.host} if snapshot.host else {})}
        scope = {
            "type": "http",
            "method": snapshot.method,
            "scheme": snapshot.scheme,
            "path": snapshot.path,
            "query_string": urlencode(query.multi_items()).encode(),
            "headers": [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()],
            "path_params": dict(snapshot.view_kwargs),
            "user": user,
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        super().__init__(scope, receive)
        self.data, self.FILES = snapshot.data, as_uploads(snapshot.files)
        if snapshot.is_form:
            fields = [(name, value) for name, values in snapshot.data.items() for value in values]
            files = [(name, _starlette(each)) for name in self.FILES for each in self.FILES.getlist(name)]
            self._form = FormData([*fields, *files])

    @property
    def user(self) -> Any:
        return self.scope["user"]


class FastApiAdapter(Adapter):
    kind = "fastapi"

    def takes(self, value: Any) -> bool:
        return isinstance(value, Request)

    async def aload(self, request: Request) -> Any:
        """(data, is a form, uploads)."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        limit = settings.JOBS_MAX_REQUEST_BYTES
        _check_length(request, limit + (settings.JOBS_MAX_UPLOAD_BYTES if kind == FORMS[0] else 0))
        if kind in FORMS:
            form = await request.form(max_files=settings.JOBS_MAX_FILES + 1)
            request.data = _lists([each for each in form.multi_items() if isinstance(each[1], str)])  # type: ignore[attr-defined]
            return request.data, True, [(name, _django(each)) for name, each in form.multi_items() if not isinstance(each, str)]
        body = await _bytes(request, limit)
        if body and kind != "application/json":
            raise UnsupportedMedia("The body must be application/json or a form.")
        # Where functions among the options look, as in the other frameworks.
        request.data = parse_json(body, Limits(body=limit, string=limit)) if body else None  # type: ignore[attr-defined]
        return request.data, False, []

    def load(self, request: Request) -> Any:
        """From a route that is no coroutine: FastAPI runs it in a thread of anyio's."""
        try:
            return from_thread.run(self.aload, request)
        except NoEventLoopError:
            raise TypeError("Call this method from a route that is `def`, or make it `async def` and await it.") from None

    def user(self, request: Request) -> Any:
        """Who an authentication middleware put there, or whoever a dependency wrote into `request.state.user`."""
        return request.scope.get("user") or getattr(request.state, "user", None)

    def header(self, request: Request, name: str) -> str:
        return request.headers.get(name, "")

    def query(self, request: Request, name: str) -> str | None:
        return request.query_params.get(name)

    def path(self, request: Request) -> str:
        return request.scope["path"]

    def read(self, view: Any, request: Request, loaded: Any) -> Asked:
        data, is_form, uploads = loaded
        snapshot = RequestSnapshot(
            kind=self.kind,
            method=request.method,
            scheme=request.url.scheme,
            host=request.headers.get("host", ""),
            path=request.scope["path"],
            query=_lists(request.query_params.multi_items()),
            headers=allowed_headers(request.headers.items()),
            data=data,
            is_form=is_form,
            view_kwargs=dict(request.path_params),
        )
        return Asked(snapshot=snapshot, uploads=uploads, user=self.user(request))

    def respond(self, view: Any, request: Request, answer: Answer) -> Response:
        if answer.status == 304:
            return Response(status_code=304, headers=dict(answer.headers))
        return Json(answer.body, status_code=answer.status, headers=dict(answer.headers))

    def stream(self, request: Request, chunks: Stream) -> StreamingResponse:
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        return StreamingResponse(as_async(chunks), media_type="text/event-stream", headers=headers)

    def rebuild(self, owner_class: type | None, snapshot: RequestSnapshot, user: Any) -> tuple[Any, Any]:
        return fresh(owner_class), JobRequest(snapshot, user)

    def result(self, value: Any) -> tuple[Any, int | None]:
        if not isinstance(value, Response):
            return value, None
        body = bytes(value.body)
        if not body:
            return None, value.status_code
        if "json" in (value.media_type or ""):
            return orjson.loads(body), value.status_code
        return body.decode(value.charset), value.status_code


class Json(JSONResponse):
    """With every number and letter as the other frameworks write them."""

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


def _lists(items: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, value in items:
        found.setdefault(name, []).append(value)
    return found


def _check_length(request: Request, limit: int) -> None:
    announced = request.headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):
        raise Malformed("Content-Length is not a number.")
    if int(announced) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.", limit=limit)


async def _bytes(request: Request, limit: int) -> bytes:
    """The body, however it is announced, and not much more than is allowed."""
    if hasattr(request, "_body"):
        return request._body
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.", limit=limit)
    request._body = body  # where Starlette keeps it: `await request.json()` still works
    return body


def _django(upload: StarletteUpload) -> UploadedFile:
    return UploadedFile(file=upload.file, name=upload.filename or "upload", content_type=upload.content_type, size=upload.size)


def _starlette(upload: Any) -> StarletteUpload:
    return StarletteUpload(upload, size=upload.size, filename=upload.name)
