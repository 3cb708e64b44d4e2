"""How errors look in the OpenAPI document. Serializers here describe; nothing is read or written through them."""

from __future__ import annotations

from rest_framework import serializers


class FieldProblemSerializer(serializers.Serializer):
    field = serializers.CharField(help_text='dotted path into the input; "" is the whole of it')
    code = serializers.CharField()
    message = serializers.CharField()


class FailureSerializer(serializers.Serializer):
    """The spec's shape, and facts beside it."""

    success = serializers.BooleanField(default=False, required=False)
    error = serializers.CharField(help_text="one sentence for people")
    code = serializers.CharField(help_text="for programs")
    errors = FieldProblemSerializer(many=True, required=False)
    request_id = serializers.CharField()


class ProblemSerializer(serializers.Serializer):
    """RFC 9457 problem details (`application/problem+json`)."""

    type = serializers.CharField(help_text="urn:jobplatform:problem:<code>")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    errors = FieldProblemSerializer(many=True, required=False)
    request_id = serializers.CharField()


def failures(*statuses: int) -> dict[int, type[serializers.Serializer]]:
    """For `extend_schema(responses={200: …, **failures(404, 422)})` on the spec's own paths."""
    return dict.fromkeys(statuses, FailureSerializer)


def problems(*statuses: int) -> dict[tuple[int, str], type[serializers.Serializer]]:
    """The same on `/api/v1/…`."""
    return {(status, "application/problem+json"): ProblemSerializer for status in statuses}
