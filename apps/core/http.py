"""The edge of HTTP: bodies read strictly, errors in one of two shapes, an id on every request.

- `read_object(request)` / `read_json(request)`: the body as strict JSON; 413 and 415 before it is read.
- Every error of an API path is JSON, whoever raised it: our error families, DRF, Django, or a crash. The spec's
  own paths answer `{"error": …}` (with `"success": false` first where the spec has it), all others RFC 9457
  problem details. Nothing of the inside is shown: the sentence is ours, the trace goes to the log.
- `X-Request-Id`: the caller's when it is a plain token, else a new one; in the answer, in errors, in the log.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, BinaryIO

import orjson
from django.core import exceptions as django_errors
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from rest_framework.exceptions import APIException, Throttled
from rest_framework.exceptions import NotAcceptable as NotAcceptableByDrf
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser

from apps.core import error_pages, errors, ids, logs, observe, tracing
from apps.core.redis import RedisDown
from apps.core.strict_json import LIMITS, Limits, parse_json

__all__ = [
    "LIMITS", "Limits", "StrictJSONParser", "answer", "body_stream", "optional_object", "parse_json", "read_json", "read_object",
    "request_id",
]  # fmt: skip

log = logging.getLogger(__name__)

request_id: ContextVar[str] = ContextVar("request_id", default="")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

SPEC_PATHS: Mapping[str, dict[str, Any]] = {
    "/internal/": {},
    "/org-config": {"success": False},
    "/role-group": {"success": False},
    "/subject-roles": {"success": False},
}
"""Paths whose error shape the spec fixes: prefix, and what stands first in the body."""


PAGES = ("/admin", "/inbox", "/static/")
"""Paths for people."""
PAGE_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Pages run scripts from here only; none are written into the page."""


class MethodNotAllowed(errors.PlatformError):
    status, code, sentence = 405, "method_not_allowed", "This path does not take that method."


class TooMany(errors.PlatformError):
    """Fact `retry_after_seconds`: when the next one is taken."""

    status, code, sentence = 429, "too_many_requests", "Too many requests."


_BY_STATUS: dict[int, type[errors.PlatformError]] = {
    family.status: family
    for family in (
        errors.Malformed, errors.Unauthenticated, errors.Forbidden, errors.Missing, errors.Conflict,
        errors.TooLarge, errors.UnsupportedMedia, errors.Unavailable, MethodNotAllowed, TooMany,
    )
}  # fmt: skip


# ---- answers ----------------------------------------------------------------------------------------------


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "application/json") -> HttpResponse:
    """A JSON answer. Cheaper than a DRF Response, and the same bytes everywhere."""
    return HttpResponse(orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), status=status, headers=headers, content_type=content_type)


def error_answer(path: str, error: errors.PlatformError) -> HttpResponse:
    facts: dict[str, Any] = {name: error.facts[name] for name in error.shown if name in error.facts}
    if isinstance(error, errors.Invalid):
        facts["errors"] = [problem.json() for problem in error.problems]
    facts["request_id"] = request_id.get()
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="jobplatform"'
    headers.update(error.facts.get("headers") or {})
    wait = error.facts.get("retry_after_seconds") or getattr(type(error), "retry_after_seconds", None)
    if wait:
        headers["Retry-After"] = str(wait)
    first = next((first for prefix, first in SPEC_PATHS.items() if path.startswith(prefix)), None)
    if first is not None:
        return answer({**first, "error": error.sentence, "code": error.code, **facts}, error.status, headers)
    if "status" in facts:  # of the thing itself; in problem details that name is the answer's own
        facts["current_status"] = facts.pop("status")
    body = {
        "type": f"urn:jobplatform:problem:{error.code}",
        "title": type(error).sentence,
        "status": error.status,
        "detail": error.sentence,
        "code": error.code,
        **facts,
    }
    return answer(body, error.status, headers, "application/problem+json")


def as_platform_error(raised: BaseException) -> errors.PlatformError:
    """The family a raised exception belongs to. One that nobody expected becomes a bare 500."""
    if isinstance(raised, errors.PlatformError):
        return raised
    if isinstance(raised, Throttled):
        return TooMany(retry_after_seconds=int(raised.wait or 1))
    if isinstance(raised, APIException):
        return _from_status(raised.status_code)
    if isinstance(raised, (Http404, django_errors.ObjectDoesNotExist)):
        return errors.Missing()
    if isinstance(raised, django_errors.PermissionDenied):
        return errors.Forbidden()
    if isinstance(raised, django_errors.RequestDataTooBig):
        return errors.TooLarge()
    if isinstance(raised, (django_errors.SuspiciousOperation, UnreadablePostError)):
        return errors.Malformed()
    if is_outage(raised):
        return errors.Unavailable()
    return errors.PlatformError()


def is_outage(raised: BaseException) -> bool:
    """A store that is away, locked or full, as opposed to a fault of ours."""
    if isinstance(raised, (OperationalError, InterfaceError, *RedisDown)):
        return True
    # MongoDB's driver is loaded where tasks live there; where it is not, nobody can have raised its errors.
    driver = sys.modules.get("pymongo.errors")
    return driver is not None and isinstance(raised.__cause__ if isinstance(raised, DatabaseError) else raised, driver.ConnectionFailure)


def _from_status(status: int) -> errors.PlatformError:
    return _BY_STATUS.get(status, errors.Malformed if status < 500 else errors.PlatformError)()


def error_response(request: Any, raised: BaseException) -> HttpResponse:
    """The answer to a raised exception, logged here once when it is our fault or an outage."""
    error = as_platform_error(raised)
    if error.status >= 500 and not isinstance(raised, errors.PlatformError):
        level = logging.WARNING if error.retry_helps else logging.ERROR
        facts = {"method": request.method, "path": request.path, "request_id": request_id.get()}
        log.log(level, "request.failed", exc_info=raised, extra=facts)
    response = error_answer(request.path, error)
    response._has_been_logged = True  # type: ignore[attr-defined]  # else Django logs it a second time
    return response


def exception_handler(raised: Exception, context: dict[str, Any]) -> HttpResponse:
    """DRF's EXCEPTION_HANDLER."""
    return error_response(context["request"], raised)


# ---- middleware -------------------------------------------------------------------------------------------


def answers_json(request: HttpRequest) -> bool:
    """API paths always; elsewhere whoever does not ask for HTML. The admin is for people."""
    if request.path.startswith(("/api/", *SPEC_PATHS)):
        return True
    return not request.path.startswith(PAGES) and "text/html" not in request.META.get("HTTP_ACCEPT", "")


class EdgeMiddleware:
    """Outermost: request ids, and whatever error page Django would have sent to a program becomes JSON."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        this = given if _REQUEST_ID.fullmatch(given) else ids.time_ordered()
        token = request_id.set(this)
        began = time.perf_counter()
        try:
            with logs.bind(request_id=this), tracing.server(request.META) as span:
                if span is not None:
                    logs.add(trace=tracing.current()[3:35])
                response = self._answer(request)
                _count(request, response, time.perf_counter() - began, span)
        finally:
            request_id.reset(token)
        response["X-Request-Id"] = this
        is_page = response.get("Content-Type", "").startswith("text/html")
        response.headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else "default-src 'none'; frame-ancestors 'none'")
        if request.path.startswith(("/api/v1/", *SPEC_PATHS)):
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    def _answer(self, request: HttpRequest) -> HttpResponse:
        # No id and no text of ours holds NUL, and PostgreSQL would not even compare with it.
        if "\x00" in request.path:
            return error_answer(request.path, errors.Missing())
        if "%00" in request.META.get("QUERY_STRING", ""):
            return error_answer(request.path, errors.Malformed("The query must not contain NUL."))
        response = self.get_response(request)
        if response.status_code >= 400 and answers_json(request) and "json" not in response.get("Content-Type", ""):
            plain = response
            response = error_answer(request.path, _from_status(plain.status_code))
            if "Allow" in plain:
                response["Allow"] = plain["Allow"]
        return response

    def process_exception(self, request: HttpRequest, raised: Exception) -> HttpResponse | None:
        """What a plain Django view raised (DRF's views handle their own). People get a page; Django asks us for that of most errors
        (`jobplatform.pages`), but knows no outage and none of our families."""
        if answers_json(request):
            return error_response(request, raised)
        if not isinstance(raised, errors.PlatformError) and not is_outage(raised):
            return None
        answered = error_response(request, raised)
        kept = {name: value for name, value in answered.headers.items() if name == "Retry-After"}
        return error_pages.page(answered.status_code, request_id=request_id.get(), headers=kept)


def _count(request: HttpRequest, response: HttpResponse, seconds: float, span: Any) -> None:
    match = getattr(request, "resolver_match", None)
    route = match.route if match else "static" if request.path.startswith("/static/") else "unmatched"
    if route.startswith("admin/"):
        route = "admin"
    method = request.method if request.method in _METHODS else "other"
    observe.HTTP_REQUESTS.inc(route, method, str(response.status_code))
    observe.HTTP_SECONDS.observe(seconds, route)
    if span is not None:
        span.update_name(f"{method} /{route}")
        names = {"http.request.method": method, "http.route": f"/{route}", "http.response.status_code": response.status_code}
        span.set_attributes({**names, "jobplatform.request_id": request_id.get()})


# ---- bodies -----------------------------------------------------------------------------------------------


def body_stream(request: Any, *, limit: int | None = None, media_type: str = "application/json") -> BinaryIO:
    """The unread body. Checks what the headers say first: 400 when there is none, 415 for another type, charset or
    encoding, 413 when the announced length is beyond `limit` bytes. A chunked body announces none: whoever reads
    must count."""
    request = getattr(request, "_request", request)
    announced = request.META.get("CONTENT_LENGTH") or ""
    if announced and not (announced.isascii() and announced.isdigit()):
        raise errors.Malformed("Content-Length is not a number.")
    length = int(announced or 0)
    chunked = not announced and "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower()
    if not length and not chunked:
        raise errors.Malformed("The body is empty.")
    kind, _, parameters = request.META.get("CONTENT_TYPE", "").partition(";")
    charset = parameters.lower().replace('"', "").partition("charset=")[2].strip()
    if kind.strip().lower() != media_type or charset not in ("", "utf-8", "utf8"):
        raise errors.UnsupportedMedia(f"The body must be {media_type} in UTF-8.")
    if request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        raise errors.UnsupportedMedia("A compressed body is not taken.")
    if limit is not None and length > limit:
        raise errors.TooLarge(f"The body is larger than {limit} bytes.", limit=limit)
    # Django takes a body without a length for an empty one; the server below has undone the chunks.
    return request.environ["wsgi.input"] if chunked else request


def read_bytes(request: Any, limits: Limits = LIMITS) -> bytes:
    """The body of a JSON request as it came, and at most one byte more than is allowed. Raises UnsupportedMedia, TooLarge, Malformed."""
    stream = body_stream(request, limit=limits.body)
    parts, left = [], limits.body + 1
    while left > 0 and (part := stream.read(min(left, 65536))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_json(request: Any, limits: Limits = LIMITS) -> Any:
    """The request's body. Raises UnsupportedMedia, TooLarge, Malformed or Invalid."""
    return parse_json(read_bytes(request, limits), limits)


def read_object(request: Any, limits: Limits = LIMITS) -> dict[str, Any]:
    """As `read_json`, for the usual case: a JSON object."""
    value = read_json(request, limits)
    if not isinstance(value, dict):
        raise errors.Invalid([errors.Problem(field="", code="wrong_type", message="must be an object")])
    return value


def optional_object(request: Any) -> dict[str, Any]:
    """As `read_object`, where no body at all is an empty object."""
    if not request.META.get("HTTP_TRANSFER_ENCODING") and request.META.get("CONTENT_LENGTH") in (None, "", "0"):
        return {}
    return read_object(request)


class StrictJSONParser(BaseParser):
    """`request.data` by the same rules. An empty body never reaches a DRF parser: prefer `read_object`."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return read_json(parser_context["request"])


class AlwaysJson(DefaultContentNegotiation):
    """Whatever Accept says, the answer is JSON; an event stream decides for itself."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        if len(renderers) == 1:
            return renderers[0], renderers[0].media_type
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except (NotAcceptableByDrf, Http404):
            return renderers[0], renderers[0].media_type
