"""What the views take, checked before a job is made of it: every problem is named by its field, and nothing is stored."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from apps.core.errors import Invalid, Problem
from examples.jobs.library import COLLECTION

FILES_MAX = 100


class Collection(serializers.Serializer):
    collection = serializers.RegexField(r"^[A-Za-z0-9_-]{1,50}$", default=COLLECTION)


class Upload(Collection):
    files = serializers.ListField(child=serializers.FileField(max_length=200), min_length=1, max_length=FILES_MAX)

    def validate_files(self, files: list[Any]) -> list[Any]:
        if len({file.name for file in files}) < len(files):
            raise serializers.ValidationError("Two of them have the same name.", code="repeated")
        return files


class Question(Collection):
    question = serializers.CharField(max_length=2000)
    top_k = serializers.IntegerField(min_value=1, max_value=20, default=4)
    document = serializers.CharField(max_length=200, default="", allow_blank=True)
    """Only from the document of that name."""


class AfterQuestion(Question):
    after = serializers.ListField(child=serializers.CharField(max_length=60), max_length=100, default=list)
    """Ids of jobs that must finish first: those that bring the documents in."""


class Topic(Collection):
    topic = serializers.CharField(max_length=200)
    questions = serializers.ListField(child=serializers.CharField(max_length=2000), min_length=1, max_length=50)


def checked(shape: type[serializers.Serializer], data: Any) -> dict[str, Any]:
    """Raises Invalid."""
    if not isinstance(data, dict):
        raise Invalid([Problem(field="", code="wrong_type", message="must be an object")])
    read = shape(data=data)
    unknown = [Problem(field=name, code="unknown", message="is not known here") for name in data.keys() - read.fields.keys()]
    if not read.is_valid() or unknown:
        raise Invalid([*_problems(read.errors), *unknown])
    return dict(read.validated_data)


def upload(request: Request) -> dict[str, Any]:
    """Of a form: its fields and its files."""
    return checked(Upload, {**{name: request.POST[name] for name in request.POST}, "files": request.FILES.getlist("files")})


def _problems(errors: Any, field: str = "") -> list[Problem]:
    if isinstance(errors, dict):
        return [problem for name, inner in errors.items() for problem in _problems(inner, f"{field}.{name}".strip("."))]
    return [Problem(field=field, code=getattr(one, "code", "invalid"), message=str(one)) for one in errors]
