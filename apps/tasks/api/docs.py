"""What /api/docs says of the tasks API: arguments of `extend_schema`, one constant per operation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from apps.core.openapi import ANY, INTEGER, PROBLEM, SPEC_ERROR, TIME, Schema, answered, nullable, object_of, string
from apps.orgs.config_keys import CONCURRENCY_MODES, STRATEGIES
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.tasks.listing import WHERE
from apps.tasks.parser import ID_LENGTH, TASK_ID_RULE
from apps.tasks.states import TaskStatus

TAGS = ["tasks"]

STATUS = string("where the task is", enum=[status.value for status in TaskStatus])

ENTRY = object_of(
    {
        "task_id": string(f"unique in the org, and the idempotency key: {TASK_ID_RULE}", maxLength=ID_LENGTH),
        "task_goal": string("what is to be achieved (also `goal`)"),
        "task_intent": string("why (also `intent`)"),
        "task_priority_value": {
            "type": "integer", "minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX, "description": "the submitter's own (also `priority`)",
        },
        "submitter_subject_id": string("`<org_id>:<subject>` of the key's org; needed only on /internal/process-task"),
        "job_space_id": string("which candidates may do it; may stand in task_job_submission_data instead"),
        "task_execution_mode": string("manual always waits for a person", enum=["auto", "automatic", "manual", "hybrid"], default="auto"),
        "task_completion_timeline": object_of(
            {"due": TIME, "not_before": TIME, "assign_by": TIME}, "deadlines; other members are passed on"
        ),
        "task_job_submission_data": object_of(description="free payload for the agent"),
        "task_op_convertor_dsl_id": nullable(string("approval script for this task")),
        "task_behavior_dsl_map": object_of(
            {
                **{name: nullable(string()) for name in ("priority_assigner_dsl_id", "auction_input_dsl_id", "plan_retrieve_dsl_id")},
                "agent_resolution_strategy": nullable(string("how the head agent is chosen", enum=list(STRATEGIES))),
            },
            "scripts and strategy for this task instead of the org's",
        ),
        "task_contracts_map": object_of(description="contracts that govern the task"),
        "task_streeability_data": object_of(description="steering data (also spelled `task_steerability_data`)"),
        "task_knowledgebase_ptr": nullable(string()),
        "task_execution_dsl": nullable(string("script or name the agent executes")),
        "task_verification_subject_id": string("who verifies the outcome"),
        "task_submission_ts": string("ISO 8601 with a zone, or epoch seconds; now when absent"),
    },
    required=["task_id", "task_goal", "task_intent", "task_priority_value", "submitter_subject_id"],
    additionalProperties=False,
)  # fmt: skip
SUB_TASK_ENTRY = object_of(
    {
        "sub_task_id": string(f"in the same space of ids as tasks: {TASK_ID_RULE}", maxLength=ID_LENGTH),
        "task_id": string("the parent: an open task of the same org"),
        "sub_task_goal": string("what is to be achieved (also `goal`)"),
        "sub_task_intent": string("why (also `intent`)"),
        "sub_task_priority_value": {"type": "integer", "minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX},
        "parent_subject_ids": {"type": "array", "items": string(), "minItems": 1, "description": "who answers for the parent"},
        "assigned_subject_ids": {"type": "array", "items": string(), "description": "not empty: choose the head agent among these"},
        "parent_input_data_ptr": nullable(string()),
        "sub_task_streeability_data": object_of(description="steering data (also spelled `sub_task_steerability_data`)"),
        "sub_task_knowledgebase_ptr": nullable(string()),
        "sub_task_submission_ts": string("ISO 8601 with a zone, or epoch seconds; now when absent"),
        "sub_task_completion_timeline": object_of({"due": TIME, "not_before": TIME}),
        "sub_task_behavior_dsl_map": object_of(description="scripts for this sub-task, also `approval_dsl_id`"),
        "sub_task_contracts_map": object_of(),
        "submitter_subject_id": string("default: whom the key speaks for"),
        "job_space_id": string("default: the parent's"),
        "sub_task_execution_mode": string(enum=["auto", "automatic", "manual", "hybrid"], default="auto"),
        "sub_task_execution_dsl": nullable(string()),
        "sub_task_verification_subject_id": string(),
        "sub_task_job_submission_data": object_of(description="free payload for the agent"),
    },
    required=[
        "sub_task_id", "task_id", "sub_task_goal", "sub_task_intent", "sub_task_priority_value", "parent_subject_ids",
    ],
    additionalProperties=False,
)  # fmt: skip
SUBMISSION = object_of(
    {"type": string(enum=["task", "sub_task"]), "data": {"oneOf": [ENTRY, SUB_TASK_ENTRY]}},
    required=["type", "data"],
    additionalProperties=False,
)

ROLL_UP = object_of(
    {
        "total": INTEGER,
        "by_status": object_of(additionalProperties=INTEGER),
        "progress": {"type": "number", "description": "mean of theirs, percent; one that has ended counts as 100"},
    }
)
HISTORY = ["policy", "assignment", "decision", "report", "transition"]
BRIEF = {
    "task_id": string(),
    "kind": string(enum=["task", "sub_task"]),
    "parent_task_id": nullable(string("of a sub-task")),
    "sub_tasks": nullable(ROLL_UP),
    "status": STATUS,
    "terminal": {"type": "boolean"},
    "reason": string("why it is there"),
    "goal": string(),
    "intent": string(),
    "submitter_subject_id": string(),
    "job_space_id": string(),
    "execution_mode": string(),
    "submitter_priority": INTEGER,
    "priority": {**INTEGER, "description": "orders the queue"},
    "retry_of": nullable(string("the ended task that this one does again")),
    "schedule_id": nullable(string("the schedule that fired it")),
    "attempt": {**INTEGER, "description": "number of the present assignment; 0 before the first"},
    "max_attempts": INTEGER,
    "agent": nullable(string("the head agent")),
    "progress": {"type": "number", "description": "percent"},
    "progress_message": string(),
    "times": object_of(
        {
            name: nullable(TIME)
            for name in (
                "created",
                "updated",
                "queued",
                "assigned",
                "dispatched",
                "started",
                "finished",
                "not_before",
                "deadline",
                "assign_by",
            )
        }
    ),  # fmt: skip
}
ASSIGNMENT = object_of({"attempt": INTEGER, "agent": string(), "strategy": string(), "because": string("why this agent"), "at": TIME})
TASK = object_of(
    {
        **BRIEF,
        "result": ANY,
        "entry": {"oneOf": [ENTRY, SUB_TASK_ENTRY]},
        "waiting_for": nullable(
            object_of(
                {
                    "about": string(enum=["approval", "assignment", "verification"]),
                    "of": {"type": "array", "items": string(), "description": "subject ids, role:<type>, @operators"},
                    "escalated": {"type": "boolean"},
                    "proposal": nullable(object_of()),
                    "escalates_at": nullable(TIME),
                    "decide_by": nullable(TIME),
                },
                "what a person is asked",
            )
        ),
        "assignment": nullable(ASSIGNMENT),
        "queue_position": nullable({**INTEGER, "description": "how many of its job space are before it; null when it is not waiting"}),
        "held_by": {"type": "array", "items": string(), "description": "what keeps it from an agent beside its turn"},
        "concurrency": nullable(
            object_of({"key": string(), "limit": INTEGER, "mode": string(enum=list(CONCURRENCY_MODES))}, "the limit it shares with others")
        ),
    }
)


def refused(*codes: int, shape: Schema = PROBLEM) -> dict[Any, Any]:
    said = {
        400: "not JSON, or a bad query", 403: "not for this key's role", 404: "no such task in this org",
        409: "conflicts with the present state",
        422: "every problem, by field",
        429: "more new tasks a minute, or open tasks, than the org may have; see Retry-After",
        503: "a store is away, or too many requests wait here; see Retry-After",
    }  # fmt: skip
    media = "application/json" if shape is SPEC_ERROR else "application/problem+json"
    return {(code, media): OpenApiResponse(response=shape, description=said[code]) for code in codes}


SAMPLE_ENTRY = {
    "task_id": "report-2026-11",
    "task_goal": "Write the monthly report",
    "task_intent": "The board meets on Friday",
    "task_priority_value": 5,
    "submitter_subject_id": "acme:ada",
    "task_completion_timeline": {"due": "2026-12-01T00:00:00Z"},
    "task_job_submission_data": {"job_space_id": "reports", "month": "2026-11"},
}
WAIT = OpenApiParameter("wait", OpenApiTypes.NUMBER, description="seconds to wait for an agent, 0…30")
REASON = {"application/json": object_of({"reason": string("for the history")}, additionalProperties=False)}
LAST_EVENT_ID = OpenApiParameter("Last-Event-ID", OpenApiTypes.STR, OpenApiParameter.HEADER, description="go on after this event")

PROCESS_TASK: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "process_task",
    "summary": "Submit a task and wait for its agent",
    "description": "Waits up to `wait` seconds (default 5) for the assignment. Sending the same task again is safe: it is answered "
    "with the present truth; the same task_id with another body is a conflict.",
    "parameters": [WAIT],
    "request": {"application/json": SUBMISSION},
    "examples": [OpenApiExample("a task", value={"type": "task", "data": SAMPLE_ENTRY}, request_only=True)],
    "responses": {
        (200, "application/json"): answered(
            object_of(
                {"status": string(enum=["assigned"]), "subject_id": string("the head agent"), "task_id": string(), "task_status": STATUS}
            ),
            "an agent has it",
        ),
        (202, "application/json"): answered(
            object_of({"status": string(enum=["queued", "awaiting_approval"]), "task_id": string(), "reason": string()}),
            "accepted, no agent yet",
        ),
        **refused(400, 404, 409, 422, 429, 503, shape=SPEC_ERROR),
    },
}
SUBMIT: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "submit_task",
    "summary": "Submit a task",
    "description": "As /internal/process-task, answered with the task. Does not wait unless asked to.",
    "parameters": [WAIT],
    "request": {"application/json": ENTRY},
    "examples": [OpenApiExample("a task", value=SAMPLE_ENTRY, request_only=True)],
    "responses": {
        (201, "application/json"): answered(TASK, "a new task"),
        (200, "application/json"): answered(TASK, "it came before"),
        **refused(400, 404, 409, 422, 429, 503),
    },
}
BULK: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "submit_bulk",
    "summary": "Submit any number of tasks",
    "description": "One task entry a line (NDJSON), one verdict a line back, in order; a bad line never stops the others. The last line "
    "is a summary, or an error when the platform could not go on: lines without a verdict may or may not have been taken "
    "and are safe to send again.",
    "request": {"application/x-ndjson": OpenApiTypes.STR},
    "responses": {
        (200, "application/x-ndjson"): OpenApiResponse(
            response=OpenApiTypes.STR,
            description="verdicts",
            examples=[
                OpenApiExample("taken", value={"line": 1, "task_id": "t1", "status": "queued", "reason": "small enough"}),
                OpenApiExample(
                    "refused", value={"line": 2, "task_id": "t2", "status": "rejected", "reason": "too large", "code": "refused"}
                ),
                OpenApiExample(
                    "wrong",
                    value={
                        "line": 3, "task_id": "t3", "status": "invalid", "code": "invalid", "message": "The input is not valid.",
                        "errors": [{"field": "task_goal", "code": "missing", "message": "is required"}],
                    },
                ),
                OpenApiExample(
                    "the last line",
                    value={
                        "summary": {
                            "lines": 3, "accepted": 1, "rejected": 1, "repeated": 0, "invalid": 1,
                            "statuses": {"queued": 1, "rejected": 1, "invalid": 1},
                        }
                    },
                ),
            ],
        ),
        **refused(503),
    },
}  # fmt: skip
LIST: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "list_tasks",
    "summary": "The org's tasks, newest first",
    "parameters": [
        OpenApiParameter("status", OpenApiTypes.STR, many=True, enum=[status.value for status in TaskStatus]),
        OpenApiParameter("agent", OpenApiTypes.STR),
        OpenApiParameter("job_space", OpenApiTypes.STR),
        OpenApiParameter("submitter", OpenApiTypes.STR),
        OpenApiParameter("parent", OpenApiTypes.STR, description="the sub-tasks of this task"),
        *[OpenApiParameter(f"{what}_{end}", OpenApiTypes.DATETIME) for what in ("created", "updated") for end in ("from", "to")],
        OpenApiParameter("priority_min", OpenApiTypes.INT),
        OpenApiParameter("priority_max", OpenApiTypes.INT),
        OpenApiParameter("q", OpenApiTypes.STR, description="how the task id begins"),
        OpenApiParameter(
            "where",
            OpenApiTypes.STR,
            description=f"a filter in JSON, with MongoDB's operators, on {', '.join(WHERE)}; for example "
            '`{"$or": [{"priority": {"$gte": 500}}, {"goal": {"$regex": "^night"}}]}`',
        ),
        OpenApiParameter("limit", OpenApiTypes.INT, description="1…200, default 50"),
        OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before"),
    ],
    "responses": {
        (200, "application/json"): answered(
            object_of({"items": {"type": "array", "items": object_of(BRIEF)}, "next_cursor": nullable(string())}), "a page"
        ),
        **refused(400),
    },
}
SUB_TASKS: dict[str, Any] = {
    **LIST,
    "operation_id": "list_sub_tasks",
    "summary": "The sub-tasks of a task, newest first (also for its head agent)",
    "parameters": [each for each in LIST["parameters"] if each.name != "parent"],
    "responses": {**LIST["responses"], **refused(404)},
}
SUBMIT_SUB_TASK: dict[str, Any] = {
    **SUBMIT,
    "operation_id": "submit_sub_task",
    "summary": "Submit a sub-task (also for the head agent of the task)",
    "description": "A SubTaskEntry; its `task_id` may be left out.",
    "parameters": [],
    "request": {"application/json": SUB_TASK_ENTRY},
    "examples": [],
}
SUMMARY: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "count_tasks",
    "summary": "How many tasks are where",
    "responses": {
        (200, "application/json"): answered(
            object_of({"counts": object_of({status.value: INTEGER for status in TaskStatus}), "open": INTEGER, "total": INTEGER}),
            "counts by status",
        )
    },
}
GET: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "get_task",
    "summary": "One task: where it is, why, who has it, and its result",
    "responses": {(200, "application/json"): answered(TASK, "the task"), **refused(404)},
}
EVENTS: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "task_history",
    "summary": "Everything that happened to a task, and why",
    "description": "Policy runs with their answers, choices of an agent with what was seen, agents' reports, and moves, in order.",
    "responses": {
        (200, "application/json"): answered(
            object_of(
                {
                    "items": {
                        "type": "array",
                        "items": object_of({"kind": string(enum=HISTORY), "at": TIME, "id": string()}),
                    }
                }
            ),
            "the history",
        ),
        **refused(404),
    },
}


def steering(operation_id: str, summary: str, *more: int) -> dict[str, Any]:
    return {
        "tags": TAGS,
        "operation_id": operation_id,
        "summary": summary,
        "request": REASON,
        "responses": {(200, "application/json"): answered(TASK, "the task"), **refused(404, 409, 422, *more)},
    }


CANCEL = steering("cancel_task", "End a task, whatever it is doing")


def _sse(operation_id: str, summary: str, description: str) -> dict[str, Any]:
    return {
        "tags": TAGS,
        "operation_id": operation_id,
        "summary": summary,
        "description": description,
        "responses": {(200, "text/event-stream"): OpenApiResponse(response=OpenApiTypes.STR, description="server-sent events")},
    }


STREAM = {
    **_sse(
        "follow_task",
        "Follow a task",
        "`task`: the task as it is now. Then `status` for each move (`id`: where to go on with Last-Event-ID; the last one "
        "carries `result`): each is told at least once. And `progress`, as it is reported: within an attempt it never falls, "
        "but of reports in quick succession only the newest may be told, and none once the task has ended. A comment every "
        "15 s shows that the stream lives. Ends when the task has.",
    ),
    "parameters": [LAST_EVENT_ID],
}
ORG_STREAM = _sse(
    "follow_tasks",
    "Follow all tasks of the org",
    "`summary` first, then `status` and `progress` of every task as they happen; `lagged` when the reader was too slow and "
    "some were left out.",
)
