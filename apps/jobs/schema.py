"""The answers of `answers` as JSON Schema, for OpenAPI documents of any framework."""

from __future__ import annotations

from typing import Any

from apps.jobs.states import JobStatus

_TIME = {"type": "string", "format": "date-time"}
_NULLABLE_TIME = {**_TIME, "nullable": True}

JOB_ID = {"type": "string", "pattern": "^job_", "description": "as the 202 gave it"}

CREATED: dict[str, Any] = {
    "type": "object",
    "description": "A job was made of the request (or of the same request before).",
    "required": ["success", "job_id", "status", "message", "status_url"],
    "properties": {
        "success": {"type": "boolean"},
        "job_id": {"type": "string"},
        "status": {"type": "string", "description": "`enqueued`, or how the job of the same request stands by now"},
        "message": {"type": "string"},
        "status_url": {"type": "string", "format": "uri-reference", "description": "where to ask for it; also in Location"},
    },
}
_PROBLEM: dict[str, Any] = {"type": "object", "properties": {name: {"type": "string"} for name in ("field", "code", "message")}}
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["success", "error", "status_code"],
    "properties": {
        "success": {"type": "boolean"},
        "error": {"type": "string"},
        "status_code": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": _PROBLEM,
        },
    },
}


def status(result: dict[str, Any] | None = None) -> dict[str, Any]:
    """How a job stands; `result` is the schema of what its method answers."""
    return {
        "type": "object",
        "required": ["success", "job_id", "status", "created_at", "started_at", "ended_at"],
        "properties": {
            "success": {"type": "boolean", "description": "false once it failed, was cancelled or has expired"},
            "job_id": {"type": "string"},
            "status": {"type": "string", "enum": [each.value for each in JobStatus]},
            "created_at": _TIME,
            "started_at": _NULLABLE_TIME,
            "ended_at": _NULLABLE_TIME,
            "result": {**(result or {}), "description": "what the method answered; once it is finished"},
            "result_status": {"type": "integer", "description": "HTTP status of that, or of the exception it raised, if there is one"},
            "message": {"type": "string", "description": "until it has ended"},
            "progress": {"type": "number", "minimum": 0, "maximum": 100, "nullable": True, "description": "until it has ended"},
            "rate": {"type": "number", "description": "percent a second"},
            "eta_s": {"type": "number", "nullable": True, "description": "seconds left at that rate"},
            "error": {"type": "string", "description": "why it has no result"},
            "error_code": {"type": "string"},
            "errors": {"type": "array", "items": _PROBLEM, "description": "what was wrong with the input, by field"},
            "status_code": {"type": "integer", "description": "of an answer that is no 2xx"},
        },
    }
