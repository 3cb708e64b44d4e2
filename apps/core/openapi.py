"""Words for schemas of the OpenAPI document that are written by hand, in the arguments of `extend_schema`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

Schema = dict[str, Any]


def string(description: str = "", **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def object_of(properties: dict[str, Schema] | None = None, description: str = "", **more: Any) -> Schema:
    return {"type": "object", "properties": properties or {}, "description": description, **more}


def nullable(schema: Schema) -> Schema:
    return {**schema, "nullable": True}


def answered(schema: Any, description: str, *examples: OpenApiExample) -> OpenApiResponse:
    return OpenApiResponse(response=schema, description=description, examples=list(examples))


TIME = string(format="date-time")
ANY: Schema = {"description": "any JSON"}
INTEGER: Schema = {"type": "integer"}
PROBLEMS: Schema = {"type": "array", "items": object_of({"field": string(), "code": string(), "message": string()})}
SPEC_ERROR = object_of({"error": string(), "code": string(), "reason": string(), "errors": PROBLEMS, "request_id": string()})
PROBLEM = object_of(
    {
        "type": string(), "title": string(), "status": INTEGER, "detail": string(), "code": string(),
        "errors": PROBLEMS, "request_id": string(),
    },
    "RFC 9457 problem details",
)  # fmt: skip
