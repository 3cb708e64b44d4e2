"""What the views take. `as_job(accepts=…)` has it checked before a job is made: every problem is named by its field."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.core.errors import Invalid, Problem
from examples.jobs.library import COLLECTION

FILES_MAX = 100


class Asked(serializers.Serializer):
    collection = serializers.RegexField(r"^[A-Za-z0-9_-]{1,50}$", default=COLLECTION)

    def validate(self, found: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(self.initial_data) - set(self.fields)):
            raise serializers.ValidationError(dict.fromkeys(unknown, "is not known here"), code="unknown")
        return found


class Upload(Asked):
    files = serializers.ListField(child=serializers.FileField(max_length=200), allow_empty=False, max_length=FILES_MAX)

    def validate_files(self, files: list[Any]) -> list[Any]:
        if len({file.name for file in files}) < len(files):
            raise serializers.ValidationError("Two of them have the same name.", code="repeated")
        return files


class Search(Asked):
    question = serializers.CharField(max_length=2000)
    top_k = serializers.IntegerField(min_value=1, max_value=20, default=4, help_text="passages")
    document = serializers.CharField(max_length=200, default="", allow_blank=True, help_text="only from the document of that name")


class Question(Search):
    after = serializers.ListField(
        child=serializers.CharField(max_length=60), max_length=100, default=list, help_text="ids of the jobs that bring the documents in"
    )


class Topic(Asked):
    topic = serializers.CharField(max_length=200)
    questions = serializers.ListField(child=serializers.CharField(max_length=2000), allow_empty=False, max_length=50)


def read(shape: type[serializers.Serializer], data: Any) -> dict[str, Any]:
    """What was asked, with its defaults. Raises Invalid."""
    found = shape(data=data)
    if not found.is_valid():
        raise Invalid([Problem(field=name, code="invalid", message=str(said)) for name, said in found.errors.items()])
    return dict(found.validated_data)
