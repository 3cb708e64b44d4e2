"""What /api/docs says of schedules: arguments of `extend_schema`, one constant per operation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter

from apps.core.openapi import INTEGER, TIME, answered, nullable, object_of, string
from apps.tasks.api.docs import ENTRY, refused
from apps.tasks.api.docs_operating import PAGE
from apps.tasks.models import Schedule, ScheduleFiring

TAGS = ["schedules"]
_OPTIONAL = {name: value for name, value in ENTRY.items() if name != "required"}
WRITABLE: dict[str, Any] = {
    "description": string(),
    "entry": {**_OPTIONAL, "description": "the task to submit, without task_id, submission time and fixed deadlines"},
    "cron": nullable(string("minute hour day month weekday; one of cron, every_seconds and at", maxLength=120)),
    "every_seconds": nullable({**INTEGER, "minimum": 5, "description": "real time, counted from starts_at or the making"}),
    "at": nullable({**TIME, "description": "once"}),
    "timezone": string("IANA name; the clock of cron", default="UTC"),
    "starts_at": nullable(TIME),
    "ends_at": nullable(TIME),
    "enabled": {"type": "boolean", "default": True},
    "overlap": string("while a task fired before is open", enum=Schedule.Overlap.values, default="allow"),
    "catch_up": string("after the platform was away", enum=Schedule.CatchUp.values, default="one"),
    "catch_up_max": {**INTEGER, "minimum": 1, "maximum": 1000, "default": 10},
    "jitter_seconds": {**INTEGER, "minimum": 0, "maximum": 3600, "default": 0, "description": "at most until the next planned time"},
    "due_after_seconds": nullable({**INTEGER, "minimum": 1, "description": "deadline of each task after its planned time"}),
}
NEXT_TIME = object_of({"planned": TIME, "local": string("on the clock of the time zone"), "fires": {**TIME, "description": "with jitter"}})
SCHEDULE = object_of(
    {
        "name": string(),
        **WRITABLE,
        "next": nullable(TIME),
        "next_fire_at": nullable(TIME),
        "fired": INTEGER,
        "last_task_id": nullable(string()),
        "created_at": TIME,
        "created_by": string(),
        "updated_at": TIME,
        "updated_by": string(),
        "upcoming": {"type": "array", "items": NEXT_TIME},
    }
)
FIRING = object_of(
    {
        "planned": TIME,
        "at": TIME,
        "outcome": string(enum=ScheduleFiring.Outcome.values),
        "meaning": string(),
        "task_id": nullable(string("<schedule>@<planned time>")),
        "because": nullable(string()),
        "actor": string(),
    }
)
SAMPLE = {
    "name": "nightly-report",
    "entry": {"task_goal": "Write the nightly report", "task_intent": "The board reads it", "task_priority_value": 5},
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "overlap": "skip",
}
COUNT = OpenApiParameter("count", OpenApiTypes.INT, description="how many")


def _operation(operation_id: str, summary: str, *, ok: dict[Any, Any], errors: tuple[int, ...], **more: Any) -> dict[str, Any]:
    return {"tags": TAGS, "operation_id": operation_id, "summary": summary, "responses": {**ok, **refused(*errors)}, **more}


def _one(status: int, schema: Any, text: str) -> dict[Any, Any]:
    return {(status, "application/json"): answered(schema, text)}


def _list(schema: Any, name: str = "items") -> dict[Any, Any]:
    return _one(200, object_of({name: {"type": "array", "items": schema}}), "all of them")


def _page(schema: Any) -> dict[Any, Any]:
    return _one(200, object_of({"items": {"type": "array", "items": schema}, "next_cursor": nullable(string())}), "a page")


def _body(*required: str, named: bool = True) -> dict[str, Any]:
    properties = {**({"name": string(maxLength=64)} if named else {}), **WRITABLE}
    schema = object_of(properties, additionalProperties=False)
    return {"application/json": {**schema, "required": list(required)} if required else schema}


LIST = _operation("list_schedules", "The org's schedules, by name", parameters=PAGE, ok=_page(SCHEDULE), errors=(400,))
CREATE = _operation(
    "create_schedule", "A new schedule (operators)",
    request=_body("name", "entry"), ok=_one(201, SCHEDULE, "made"), errors=(400, 409, 422),
    examples=[OpenApiExample("every night", value=SAMPLE, request_only=True)],
)  # fmt: skip
PREVIEW = _operation(
    "preview_schedule", "When such a schedule would fire; nothing is stored",
    parameters=[COUNT], request=_body(), ok=_list(NEXT_TIME, "upcoming"), errors=(400, 422),
)  # fmt: skip
GET = _operation("get_schedule", "One schedule, and its next times", ok=_one(200, SCHEDULE, "the schedule"), errors=(404,))
CHANGE = _operation(
    "change_schedule", "Change what is given, leave the rest (operators)",
    request=_body(named=False), ok=_one(200, SCHEDULE, "as it is now"), errors=(400, 404, 409, 422),
)  # fmt: skip
DELETE = _operation("delete_schedule", "End it; its tasks stay (operators)", request=None, ok={204: None}, errors=(404,))
NEXT = _operation("next_times", "Its next times, paused or not", parameters=[COUNT], ok=_list(NEXT_TIME), errors=(400, 404))
FIRINGS = _operation(
    "list_firings", "What became of its times, latest first", parameters=[COUNT, PAGE[1]], ok=_page(FIRING), errors=(400, 404)
)
PAUSE = _operation(
    "pause_schedule", "Fire no more until resumed (operators)", request=None, ok=_one(200, SCHEDULE, "paused"), errors=(404, 409)
)
RESUME = _operation(
    "resume_schedule", "Go on from now; what passed meanwhile is left out (operators)",
    request=None, ok=_one(200, SCHEDULE, "going"), errors=(404, 409),
)  # fmt: skip
RUN = _operation(
    "run_schedule", "One task now, out of turn (operators)", request=None, ok=_one(201, FIRING, "what came of it"), errors=(404, 503)
)
