"""What /api/docs says of the tasks API: arguments of `extend_schema`, one constant per operation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from apps.orgs.config_keys import CONCURRENCY_MODES, STRATEGIES
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.tasks.listing import WHERE
from apps.tasks.parser import ID_LENGTH, TASK_ID_RULE
from apps.tasks.states import TaskStatus

Schema = dict[str, Any]
TAGS = ["tasks"]


def _string(description: str = "", **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _object(properties: dict[str, Schema] | None = None, description: str = "", **more: Any) -> Schema:
    return {"type": "object", "properties": properties or {}, "description": description, **more}


def _nullable(schema: Schema) -> Schema:
    return {**schema, "nullable": True}


STATUS = _string("where the task is", enum=[status.value for status in TaskStatus])
TIME = _string(format="date-time")
ANY: Schema = {"description": "any JSON"}
INTEGER: Schema = {"type": "integer"}

ENTRY = _object(
    {
        "task_id": _string(f"unique in the org, and the idempotency key: {TASK_ID_RULE}", maxLength=ID_LENGTH),
        "task_goal": _string("what is to be achieved (also `goal`)"),
        "task_intent": _string("why (also `intent`)"),
        "task_priority_value": {
            "type": "integer", "minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX, "description": "the submitter's own (also `priority`)",
        },
        "submitter_subject_id": _string("`<org_id>:<subject>` of the key's org; needed only on /internal/process-task"),
        "job_space_id": _string("which candidates may do it; may stand in task_job_submission_data instead"),
        "task_execution_mode": _string("manual always waits for a person", enum=["auto", "automatic", "manual", "hybrid"], default="auto"),
        "task_completion_timeline": _object(
            {"due": TIME, "not_before": TIME, "assign_by": TIME}, "deadlines; other members are passed on"
        ),
        "task_job_submission_data": _object(description="free payload for the agent"),
        "task_op_convertor_dsl_id": _nullable(_string("approval script for this task")),
        "task_behavior_dsl_map": _object(
            {
                **{name: _nullable(_string()) for name in ("priority_assigner_dsl_id", "auction_input_dsl_id", "plan_retrieve_dsl_id")},
                "agent_resolution_strategy": _nullable(_string("how the head agent is chosen", enum=list(STRATEGIES))),
            },
            "scripts and strategy for this task instead of the org's",
        ),
        "task_contracts_map": _object(description="contracts that govern the task"),
        "task_streeability_data": _object(description="steering data (also spelled `task_steerability_data`)"),
        "task_knowledgebase_ptr": _nullable(_string()),
        "task_execution_dsl": _nullable(_string("script or name the agent executes")),
        "task_verification_subject_id": _string("who verifies the outcome"),
        "task_submission_ts": _string("ISO 8601 with a zone, or epoch seconds; now when absent"),
    },
    required=["task_id", "task_goal", "task_intent", "task_priority_value", "submitter_subject_id"],
    additionalProperties=False,
)  # fmt: skip
SUB_TASK_ENTRY = _object(
    {
        "sub_task_id": _string(f"in the same space of ids as tasks: {TASK_ID_RULE}", maxLength=ID_LENGTH),
        "task_id": _string("the parent: an open task of the same org"),
        "sub_task_goal": _string("what is to be achieved (also `goal`)"),
        "sub_task_intent": _string("why (also `intent`)"),
        "sub_task_priority_value": {"type": "integer", "minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX},
        "parent_subject_ids": {"type": "array", "items": _string(), "minItems": 1, "description": "who answers for the parent"},
        "assigned_subject_ids": {"type": "array", "items": _string(), "description": "not empty: choose the head agent among these"},
        "parent_input_data_ptr": _nullable(_string()),
        "sub_task_streeability_data": _object(description="steering data (also spelled `sub_task_steerability_data`)"),
        "sub_task_knowledgebase_ptr": _nullable(_string()),
        "sub_task_submission_ts": _string("ISO 8601 with a zone, or epoch seconds; now when absent"),
        "sub_task_completion_timeline": _object({"due": TIME, "not_before": TIME}),
        "sub_task_behavior_dsl_map": _object(description="scripts for this sub-task, also `approval_dsl_id`"),
        "sub_task_contracts_map": _object(),
        "submitter_subject_id": _string("default: whom the key speaks for"),
        "job_space_id": _string("default: the parent's"),
        "sub_task_execution_mode": _string(enum=["auto", "automatic", "manual", "hybrid"], default="auto"),
        "sub_task_execution_dsl": _nullable(_string()),
        "sub_task_verification_subject_id": _string(),
        "sub_task_job_submission_data": _object(description="free payload for the agent"),
    },
    required=[
        "sub_task_id", "task_id", "sub_task_goal", "sub_task_intent", "sub_task_priority_value", "parent_subject_ids",
    ],
    additionalProperties=False,
)  # fmt: skip
SUBMISSION = _object(
    {"type": _string(enum=["task", "sub_task"]), "data": {"oneOf": [ENTRY, SUB_TASK_ENTRY]}},
    required=["type", "data"],
    additionalProperties=False,
)

ROLL_UP = _object(
    {
        "total": INTEGER,
        "by_status": _object(additionalProperties=INTEGER),
        "progress": {"type": "number", "description": "mean of theirs, percent; one that has ended counts as 100"},
    }
)
HISTORY = ["policy", "assignment", "decision", "report", "transition"]
BRIEF = {
    "task_id": _string(),
    "kind": _string(enum=["task", "sub_task"]),
    "parent_task_id": _nullable(_string("of a sub-task")),
    "sub_tasks": _nullable(ROLL_UP),
    "status": STATUS,
    "terminal": {"type": "boolean"},
    "reason": _string("why it is there"),
    "goal": _string(),
    "intent": _string(),
    "submitter_subject_id": _string(),
    "job_space_id": _string(),
    "execution_mode": _string(),
    "submitter_priority": INTEGER,
    "priority": {**INTEGER, "description": "orders the queue"},
    "retry_of": _nullable(_string("the ended task that this one does again")),
    "schedule_id": _nullable(_string("the schedule that fired it")),
    "attempt": {**INTEGER, "description": "number of the present assignment; 0 before the first"},
    "max_attempts": INTEGER,
    "agent": _nullable(_string("the head agent")),
    "progress": {"type": "number", "description": "percent"},
    "progress_message": _string(),
    "times": _object(
        {
            name: _nullable(TIME)
            for name in (
                "created", "updated", "queued", "assigned", "dispatched", "started", "finished", "not_before", "deadline", "assign_by",
            )
        }
    ),  # fmt: skip
}
ASSIGNMENT = _object({"attempt": INTEGER, "agent": _string(), "strategy": _string(), "because": _string("why this agent"), "at": TIME})
TASK = _object(
    {
        **BRIEF,
        "result": ANY,
        "entry": {"oneOf": [ENTRY, SUB_TASK_ENTRY]},
        "waiting_for": _nullable(
            _object(
                {
                    "about": _string(enum=["approval", "assignment", "verification"]),
                    "of": {"type": "array", "items": _string(), "description": "subject ids, role:<type>, @operators"},
                    "escalated": {"type": "boolean"},
                    "proposal": _nullable(_object()),
                    "escalates_at": _nullable(TIME),
                    "decide_by": _nullable(TIME),
                },
                "what a person is asked",
            )
        ),
        "assignment": _nullable(ASSIGNMENT),
        "queue_position": _nullable({**INTEGER, "description": "how many of its job space are before it; null when it is not waiting"}),
        "held_by": {"type": "array", "items": _string(), "description": "what keeps it from an agent beside its turn"},
        "concurrency": _nullable(
            _object({"key": _string(), "limit": INTEGER, "mode": _string(enum=list(CONCURRENCY_MODES))}, "the limit it shares with others")
        ),
    }
)

PROBLEMS: Schema = {"type": "array", "items": _object({"field": _string(), "code": _string(), "message": _string()})}
SPEC_ERROR = _object({"error": _string(), "code": _string(), "reason": _string(), "errors": PROBLEMS, "request_id": _string()})
PROBLEM = _object(
    {
        "type": _string(), "title": _string(), "status": INTEGER, "detail": _string(), "code": _string(),
        "errors": PROBLEMS, "request_id": _string(),
    },
    "RFC 9457 problem details",
)  # fmt: skip


def _errors(*codes: int, shape: Schema = PROBLEM) -> dict[Any, Any]:
    said = {
        400: "not JSON, or a bad query", 403: "not for this key's role", 404: "no such task in this org",
        409: "conflicts with the present state",
        422: "every problem, by field",
        429: "more new tasks a minute, or open tasks, than the org may have; see Retry-After",
        503: "a store is away, or too many requests wait here; see Retry-After",
    }  # fmt: skip
    media = "application/json" if shape is SPEC_ERROR else "application/problem+json"
    return {(code, media): OpenApiResponse(response=shape, description=said[code]) for code in codes}


def _ok(schema: Any, description: str, *examples: OpenApiExample) -> OpenApiResponse:
    return OpenApiResponse(response=schema, description=description, examples=list(examples))


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
REASON = {"application/json": _object({"reason": _string("for the history")}, additionalProperties=False)}
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
        (200, "application/json"): _ok(
            _object(
                {"status": _string(enum=["assigned"]), "subject_id": _string("the head agent"), "task_id": _string(), "task_status": STATUS}
            ),
            "an agent has it",
        ),
        (202, "application/json"): _ok(
            _object({"status": _string(enum=["queued", "awaiting_approval"]), "task_id": _string(), "reason": _string()}),
            "accepted, no agent yet",
        ),
        **_errors(400, 404, 409, 422, 429, 503, shape=SPEC_ERROR),
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
        (201, "application/json"): _ok(TASK, "a new task"),
        (200, "application/json"): _ok(TASK, "it came before"),
        **_errors(400, 404, 409, 422, 429, 503),
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
        **_errors(503),
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
        (200, "application/json"): _ok(
            _object({"items": {"type": "array", "items": _object(BRIEF)}, "next_cursor": _nullable(_string())}), "a page"
        ),
        **_errors(400),
    },
}
SUB_TASKS: dict[str, Any] = {
    **LIST,
    "operation_id": "list_sub_tasks",
    "summary": "The sub-tasks of a task, newest first (also for its head agent)",
    "parameters": [each for each in LIST["parameters"] if each.name != "parent"],
    "responses": {**LIST["responses"], **_errors(404)},
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
        (200, "application/json"): _ok(
            _object({"counts": _object({status.value: INTEGER for status in TaskStatus}), "open": INTEGER, "total": INTEGER}),
            "counts by status",
        )
    },
}
GET: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "get_task",
    "summary": "One task: where it is, why, who has it, and its result",
    "responses": {(200, "application/json"): _ok(TASK, "the task"), **_errors(404)},
}
EVENTS: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "task_history",
    "summary": "Everything that happened to a task, and why",
    "description": "Policy runs with their answers, choices of an agent with what was seen, agents' reports, and moves, in order.",
    "responses": {
        (200, "application/json"): _ok(
            _object(
                {
                    "items": {
                        "type": "array",
                        "items": _object(
                            {"kind": _string(enum=HISTORY), "at": TIME, "id": _string()}
                        ),
                    }
                }
            ),
            "the history",
        ),
        **_errors(404),
    },
}


def _steering(operation_id: str, summary: str, *more: int) -> dict[str, Any]:
    return {
        "tags": TAGS,
        "operation_id": operation_id,
        "summary": summary,
        "request": REASON,
        "responses": {(200, "application/json"): _ok(TASK, "the task"), **_errors(404, 409, 422, *more)},
    }


CANCEL = _steering("cancel_task", "End a task, whatever it is doing")
APPROVE = _steering("approve_task", "Let a task in that waits for a person: one of those it names, else operators", 403, 503)
REJECT = _steering("reject_task", "Turn away a task that waits for a person: one of those it names, else operators", 403, 503)


ASSIGN = {
    **_steering("assign_task", "Choose the head agent of a task that waits for that, or is queued", 403, 503),
    "description": "Without `subject_id`: the one the platform proposes (mode hybrid). The subject must be in the candidate pool.",
    "request": {"application/json": _object({"subject_id": _string(), "reason": _string()}, additionalProperties=False)},
}
VERIFY = {
    **_steering("verify_task", "Decide about a result that waits for its verifier", 403, 503),
    "description": "accept: completed. reject: failed. send_back: another attempt; its agent gets the reason as a note.",
    "request": {
        "application/json": _object(
            {"verdict": _string(enum=["accept", "reject", "send_back"]), "reason": _string()}, required=["verdict"],
            additionalProperties=False,
        )
    },
}  # fmt: skip


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
