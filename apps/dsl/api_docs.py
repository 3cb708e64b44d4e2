"""What the OpenAPI document says about policy scripts."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers

from apps.dsl.models import PolicyScript
from apps.dsl.policies import Hook

TAG = ["Policies"]
HOOKS = [str(hook) for hook in Hook]
_MISSING = OpenApiResponse(description="No such script in this org, and no built-in one.")
_INVALID = OpenApiResponse(description="What is wrong, field by field; for a syntax error with its line.")

_VERSION_FIELDS = {
    "script_id": serializers.CharField(),
    "hook": serializers.ChoiceField(choices=HOOKS),
    "built_in": serializers.BooleanField(),
    "version": serializers.IntegerField(),
    "status": serializers.ChoiceField(choices=PolicyScript.Status.choices),
    "sha256": serializers.CharField(help_text="of the text"),
    "tests_count": serializers.IntegerField(),
    "created_at": serializers.DateTimeField(),
    "created_by": serializers.CharField(),
}
_NAMED_FIELDS = {
    **_VERSION_FIELDS,
    "active_version": serializers.IntegerField(allow_null=True, help_text="the version that answers now; null: none does"),
    "named_by": serializers.ListField(
        child=serializers.CharField(), help_text="the org's configuration key that names it; empty: it answers only tasks that do"
    ),
}
_VERSION = inline_serializer("PolicyVersion", _NAMED_FIELDS)
_TESTS = serializers.ListField(
    child=serializers.JSONField(), required=False, help_text="its tests: objects with name, input and expect; run before it is activated"
)

LIST = extend_schema(
    operation_id="policies_list",
    tags=TAG,
    summary="Policy scripts: the org's own and the built-in ones",
    parameters=[
        OpenApiParameter("hook", enum=HOOKS, description="only scripts that answer this question"),
        OpenApiParameter("cursor", description="`next_cursor` of the page before"),
    ],
    responses=inline_serializer(
        "PolicyPage",
        {
            "items": inline_serializer(
                "PolicyLine",
                {
                    "script_id": serializers.CharField(),
                    "hook": serializers.ChoiceField(choices=HOOKS),
                    "built_in": serializers.BooleanField(),
                    "active_version": serializers.IntegerField(allow_null=True, help_text="null: it does not answer"),
                    "latest_version": serializers.IntegerField(),
                },
                many=True,
            ),
            "next_cursor": serializers.CharField(allow_null=True),
        },
    ),
)

REGISTER = extend_schema(
    operation_id="policies_register",
    tags=TAG,
    summary="Register a version of a policy script",
    description="A version never changes: a new text is the next version (201), a text that is there already is its own version (200).",
    request=inline_serializer(
        "RegisterPolicy",
        {
            "script_id": serializers.CharField(max_length=120),
            "hook": serializers.ChoiceField(choices=HOOKS),
            "source": serializers.CharField(help_text="Starlark, at most 256 kB"),
            "activate": serializers.BooleanField(required=False, default=False, help_text="make it the version that answers"),
            "tests": _TESTS,
        },
    ),
    responses={201: _VERSION, 200: _VERSION, 409: OpenApiResponse(description="The script has another hook."), 422: _INVALID},
    examples=[
        OpenApiExample(
            "a first policy",
            {
                "script_id": "approval/small",
                "hook": "approval",
                "source": 'def approve(task):\n    return {"accepted": task["priority"] < 100, "reason": "priority below 100"}\n',
                "activate": True,
            },
            request_only=True,
        )
    ],
)

SHOW = extend_schema(
    operation_id="policies_show",
    tags=TAG,
    summary="A policy script: its text and its versions",
    parameters=[OpenApiParameter("version", int, description="whose text; default: the active one, else the newest")],
    responses={
        200: inline_serializer(
            "PolicyDetail",
            {
                **_NAMED_FIELDS,
                "source": serializers.CharField(),
                "tests": serializers.ListField(child=serializers.JSONField()),
                "versions": inline_serializer("PolicyVersions", _VERSION_FIELDS, many=True),
            },
        ),
        404: _MISSING,
    },
)

CHANGE = extend_schema(
    tags=TAG,
    summary="Make a version the one that answers, or let it answer no more",
    description="At most one version of a script is active: activating one retires the other. Built-in scripts cannot be changed here.",
    request=inline_serializer("WhichPolicyVersion", {"version": serializers.IntegerField(min_value=1)}),
    responses={
        200: _VERSION,
        403: OpenApiResponse(description="The org wants another person than the author."),
        404: _MISSING,
        422: OpenApiResponse(description="Its tests fail: each with what was expected and what came."),
    },
)

DIFF = extend_schema(
    operation_id="policies_diff",
    tags=TAG,
    summary="What changed between two versions",
    parameters=[
        OpenApiParameter("from", int, description="default: the version before the newest"),
        OpenApiParameter("to", int, description="default: the newest"),
    ],
    responses={
        200: inline_serializer(
            "PolicyDiff",
            {
                "script_id": serializers.CharField(),
                "from": serializers.IntegerField(),
                "to": serializers.IntegerField(),
                "diff": serializers.CharField(help_text="unified; empty when the texts are the same"),
                "added": serializers.IntegerField(help_text="lines"),
                "removed": serializers.IntegerField(help_text="lines"),
                "tests": serializers.JSONField(help_text="names that were added, removed, changed"),
            },
        ),
        404: _MISSING,
    },
)

RUN_TESTS = extend_schema(
    operation_id="policies_run_tests",
    tags=TAG,
    summary="Run the tests of a version, or others on it",
    request=inline_serializer(
        "RunPolicyTests", {"version": serializers.IntegerField(required=False, help_text="default: the newest"), "tests": _TESTS}
    ),
    responses={
        200: inline_serializer(
            "PolicyTestResults",
            {
                "script_id": serializers.CharField(),
                "version": serializers.IntegerField(),
                "passed": serializers.IntegerField(),
                "failed": serializers.IntegerField(),
                "tests": serializers.ListField(
                    child=serializers.JSONField(), help_text="name, passed, expected, actual, error, note, duration_us"
                ),
            },
        ),
        404: _MISSING,
        422: _INVALID,
    },
)
