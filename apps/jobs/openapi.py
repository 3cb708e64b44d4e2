"""Jobs in the OpenAPI document of Django REST framework (drf-spectacular): the 202, the status URL and the type of the result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_type_hints

from drf_spectacular.plumbing import UnableToProceedError, resolve_type_hint
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from apps.jobs.fitting import ASKED, has_own
from apps.jobs.marks import JobMark, marked_in
from apps.jobs.mixin import JobManagerMixin

JOB_ID = "the job, as the 202 named it"


class JobCreated(Serializer):
    success = serializers.BooleanField()
    job_id = serializers.CharField()
    status = serializers.CharField(help_text="enqueued; of a request that was made before, how its job stands")
    message = serializers.CharField()
    status_url = serializers.CharField(help_text="where to ask for it, also in the header Location")


class JobProblem(Serializer):
    field = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()


class JobRefused(Serializer):
    success = serializers.BooleanField(help_text="false")
    error = serializers.CharField()
    status_code = serializers.IntegerField()
    errors = JobProblem(many=True, required=False)


class JobAnswer(Serializer):
    """How a job stands."""

    success = serializers.BooleanField(help_text="false once it failed, was cancelled or has expired")
    job_id = serializers.CharField()
    status = serializers.CharField(help_text="queued, started, retrying, finished, failed, cancelled or expired")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    result = serializers.JSONField(required=False, help_text="what the method answered, once it is finished")
    result_status = serializers.IntegerField(required=False, help_text="HTTP status of that, or of the exception it raised")
    message = serializers.CharField(required=False, help_text="until it has ended")
    progress = serializers.FloatField(required=False, allow_null=True, help_text="percent, until it has ended")
    rate = serializers.FloatField(required=False, help_text="percent a second")
    eta_s = serializers.FloatField(required=False, allow_null=True, help_text="seconds left at that rate")
    error = serializers.CharField(required=False, help_text="why it has no result")
    error_code = serializers.CharField(required=False)
    errors = JobProblem(many=True, required=False, help_text="what was wrong with the input, by field")


def describe(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """A PREPROCESSING_HOOK of drf-spectacular: every view with the mixin says what it answers."""
    for *_, callback in endpoints:
        cls = getattr(callback, "cls", object)
        for parent in cls.__mro__:
            if issubclass(parent, JobManagerMixin) and issubclass(parent, APIView) and "_is_described" not in vars(parent):
                parent._is_described = True  # type: ignore[attr-defined]
                _describe(parent, own=[verb for verb in ASKED if has_own(parent, JobManagerMixin, verb)])
    return endpoints


def _describe(cls: type, *, own: Iterable[str]) -> None:
    """`own`: of get and delete, those that do more than answer for jobs. A method with an `extend_schema` of its own is left
    alone."""
    jobs = {name: mark for name, each in vars(cls).items() if inspect.isfunction(each) and (mark := marked_in(cls, name))}
    for name, mark in jobs.items():
        _say(vars(cls)[name], **_submitting(mark))
    status = _status(cls.__name__, next(iter(jobs.values()))) if len(jobs) == 1 else JobAnswer
    for verb, said in (("get", "How a job stands"), ("delete", "Cancel a job")):
        if verb not in vars(cls) or verb in jobs:
            continue
        parameter = OpenApiParameter("job_id", str, required=verb not in own, description=JOB_ID)
        answers = {200: status, 404: JobRefused, **({304: None, 410: status} if verb == "get" else {202: status, 409: JobRefused})}
        _say(vars(cls)[verb], parameters=[parameter], **({} if verb in own else {"responses": answers, "request": None, "summary": said}))


def _submitting(mark: JobMark) -> dict[str, Any]:
    inline = {} if mark.options.return_job_id else {200: _result(mark) or OpenApiTypes.ANY}
    request = mark.accepts if _is_serializer(mark.accepts) else OpenApiTypes.OBJECT
    return {"responses": {**inline, 202: JobCreated, 400: JobRefused, 413: JobRefused}, "request": request}


def _status(name: str, mark: JobMark) -> type[Serializer]:
    """The status of the only job of a class names its result."""
    result = _result(mark)
    if result is None:
        return JobAnswer
    if not _is_serializer(result):
        result = extend_schema_field(result)(type("Result", (serializers.JSONField,), {}))
    return type(f"{name}JobAnswer", (JobAnswer,), {"result": result(required=False)})


def _result(mark: JobMark) -> Any:
    """A serializer class or a schema; None: it does not say."""
    if _is_serializer(mark.result):
        return mark.result
    try:
        hint = mark.result or get_type_hints(mark.body).get("return")
        return resolve_type_hint(hint) if hint is not None else None
    except (UnableToProceedError, NameError, TypeError):
        return None


def _is_serializer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Serializer)


def _say(method: Callable[..., Any], **words: Any) -> None:
    if "schema" not in getattr(method, "kwargs", {}):
        extend_schema(**words)(method)
