"""From untrusted JSON to a `TaskEntry`, or to the list of everything that is wrong with it.

One table: each wire name, the field it fills, and the check it must pass. Checks are strict about types
(`true`, `1.0` and `"1"` are not 1) because a guess made here is a wrong task later. This runs once per submitted
task, on bulk submissions thousands of times a second, so it is plain code over one dict.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from apps.agents.cards import WORD_LENGTH, words
from apps.core.errors import Invalid, Problem
from apps.orgs.config_keys import STRATEGIES
from apps.roles.rules import id_problem
from apps.tasks import concurrency
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN, ExecutionMode, TaskEntry

ID_LENGTH = 180
SCRIPT_ID_LENGTH = 120
TEXT_LENGTH = 64 * 1024

# A task id stands in URLs, subjects, keys and logs, so it holds no space, slash, wildcard, percent sign or
# anything that looks like something else (letters beyond ASCII do).
TASK_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:@+=~,-]{{0,{ID_LENGTH - 1}}}")
TASK_ID_RULE = f"1 to {ID_LENGTH} of A-Z a-z 0-9 and _ . : @ + = ~ , - and must start with a letter, a digit or _"
SUBJECTS_MAX = 1000
RESERVED_IDS = frozenset({"actions", "bulk", "simulate", "stream", "summary"})
"""Names of the API beside `/api/v1/tasks/{task_id}`."""

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
INSTANTS = ("due", "not_before", "assign_by")
"""What a completion timeline says that the platform keeps to; other members are passed on."""
EPOCH = re.compile(r"\d{1,12}(\.\d{1,9})?")

SERVER_OWNED = frozenset(
    {
        "approved", "approved_by", "assigned_agent", "assigned_at", "assigned_subject_id", "assigned_subject_ids", "attempt", "attempts",
        "body_hash", "created_at", "current_status", "delivery_seq", "finished_at", "head_agent", "head_agent_subject_id", "key",
        "lease_expires_at", "max_attempts", "org", "org_id", "queued_at", "reply_subject", "result", "score", "sequence", "started_at",
        "state", "status", "task_status", "updated_at",
    }
)
MODES = {"auto": ExecutionMode.AUTO, "automatic": ExecutionMode.AUTO, "manual": ExecutionMode.MANUAL, "hybrid": ExecutionMode.HYBRID}

TYPE_NAMES = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "a list", dict: "an object"}

Problems = list[Problem]
Check = Callable[[Any, str, Problems], Any]
"""(value, field path, problems) → the value to keep. Appends what is wrong instead of raising."""


def _wrong(problems: Problems, field: str, code: str, message: str) -> None:
    problems.append(Problem(field=field, code=code, message=message))


def _wrong_type(problems: Problems, field: str, wanted: str, value: Any) -> None:
    if value is None:
        _wrong(problems, field, "null", f"must be {wanted}, not null")
    else:
        _wrong(problems, field, "wrong_type", f"must be {wanted}, not {TYPE_NAMES.get(type(value), 'that')}")


def _task_id(value: Any, field: str, problems: Problems) -> Any:
    if type(value) is not str:
        _wrong_type(problems, field, "a string", value)
    elif not value:
        _wrong(problems, field, "empty", "must not be empty")
    elif len(value) > ID_LENGTH:
        _wrong(problems, field, "too_long", f"must have at most {ID_LENGTH} characters")
    elif not TASK_ID.fullmatch(value):
        _wrong(problems, field, "bad_id", f"must be {TASK_ID_RULE}")
    elif value in RESERVED_IDS:
        _wrong(problems, field, "reserved", "is a reserved word")
    return value


def _printable(*, length: int, empty: bool, null: bool = False) -> Check:
    """An id of someone else's making: printable, in composed form (NFC), no space at its ends."""
    wanted = "a string or null" if null else "a string"

    def check(value: Any, field: str, problems: Problems) -> Any:
        if value is None and null:
            return ""
        if type(value) is not str:
            _wrong_type(problems, field, wanted, value)
        elif not value:
            if not empty:
                _wrong(problems, field, "empty", "must not be empty")
        elif len(value) > length:
            _wrong(problems, field, "too_long", f"must have at most {length} characters")
        elif not value.isprintable() or value[0] == " " or value[-1] == " ":
            _wrong(problems, field, "bad_id", "must be printable, without a space at either end")
        elif not value.isascii() and not unicodedata.is_normalized("NFC", value):
            _wrong(problems, field, "not_normalized", "must be in Unicode normalization form NFC")
        return value

    return check


def _text(*, empty: bool, null: bool = False) -> Check:
    wanted = "a string or null" if null else "a string"

    def check(value: Any, field: str, problems: Problems) -> Any:
        if value is None and null:
            return ""
        if type(value) is not str:
            _wrong_type(problems, field, wanted, value)
        elif not empty and (not value or value.isspace()):
            _wrong(problems, field, "empty", "must not be empty")
        elif len(value) > TEXT_LENGTH:
            _wrong(problems, field, "too_long", f"must have at most {TEXT_LENGTH} characters")
        return value

    return check


def _priority(value: Any, field: str, problems: Problems) -> Any:
    if type(value) is not int:
        _wrong_type(problems, field, "an integer", value)
    elif not PRIORITY_MIN <= value <= PRIORITY_MAX:
        _wrong(problems, field, "out_of_range", f"must be from {PRIORITY_MIN} to {PRIORITY_MAX}")
    return value


def _mode(value: Any, field: str, problems: Problems) -> Any:
    if type(value) is not str:
        _wrong_type(problems, field, "a string", value)
    elif value not in MODES:
        _wrong(problems, field, "not_allowed", f"must be one of {', '.join(MODES)}")
    else:
        return MODES[value]
    return value


def _parcel(value: Any, field: str, problems: Problems) -> Any:
    """Free JSON. Depth, sizes and numbers are bounded where the bytes are read (`apps.core.strict_json`)."""
    if type(value) is not dict:
        _wrong_type(problems, field, "an object", value)
    return value


def instant(value: Any, field: str, problems: Problems) -> datetime | None:
    """ISO 8601 with a zone, or epoch seconds, in a string."""
    if type(value) is not str:
        _wrong_type(problems, field, "a string", value)
        return None
    try:
        at = datetime.fromtimestamp(float(value), UTC) if EPOCH.fullmatch(value) else datetime.fromisoformat(value)
        if at.tzinfo is None:
            _wrong(problems, field, "no_zone", "must say its time zone, for example 2026-12-01T00:00:00Z")
            return None
        at = at.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        _wrong(problems, field, "bad_time", "must be ISO 8601 with a time zone, or epoch seconds, in a string")
        return None
    if not EARLIEST <= at < LATEST:
        _wrong(problems, field, "out_of_range", f"must be between the years {EARLIEST.year} and {LATEST.year}")
        return None
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _submission_ts(value: Any, field: str, problems: Problems) -> Any:
    instant(value, field, problems)
    return value


def _behavior_map(value: Any, field: str, problems: Problems) -> Any:
    if type(_parcel(value, field, problems)) is dict:
        for name in ("approval_dsl_id", "priority_assigner_dsl_id", "auction_input_dsl_id", "plan_retrieve_dsl_id"):
            if name in value:
                SCRIPT_ID(value[name], f"{field}.{name}", problems)
        strategy = value.get("agent_resolution_strategy")
        if strategy not in (None, *STRATEGIES):
            _wrong(problems, f"{field}.agent_resolution_strategy", "not_allowed", f"must be one of {', '.join(STRATEGIES)}")
    return value


def _timeline(value: Any, field: str, problems: Problems) -> Any:
    if type(_parcel(value, field, problems)) is dict:
        due, start, by = (instant(value[name], f"{field}.{name}", problems) if name in value else None for name in INSTANTS)
        if due and start and start >= due:
            _wrong(problems, f"{field}.not_before", "out_of_range", "must be before due")
        if start and by and start >= by:
            _wrong(problems, f"{field}.not_before", "out_of_range", "must be before assign_by")
    return value


def _steering(value: Any, field: str, problems: Problems) -> Any:
    """Free, but for what the choice of an agent reads (`capabilities` it must have, the `job_kind` it must take) and the
    `concurrency` that the queue keeps to."""
    if type(_parcel(value, field, problems)) is dict:
        if value.get("concurrency") is not None:
            concurrency.check(value["concurrency"], f"{field}.concurrency", problems)
        if "capabilities" in value:
            words(value["capabilities"], f"{field}.capabilities", problems)
        if "job_kind" in value and (wrong := id_problem(value["job_kind"], most=WORD_LENGTH)):
            _wrong(problems, f"{field}.job_kind", "wrong", wrong)
    return value


def _subjects(*, empty: bool) -> Check:
    """A list of subject ids, none twice."""

    def check(value: Any, field: str, problems: Problems) -> Any:
        if type(value) is not list:
            _wrong_type(problems, field, "a list of subject ids", value)
            return value
        if not value and not empty:
            _wrong(problems, field, "empty", "must name at least one subject")
        if len(value) > SUBJECTS_MAX:
            _wrong(problems, field, "too_long", f"must name at most {SUBJECTS_MAX} subjects")
            return value
        seen: set[str] = set()
        for index, each in enumerate(value):
            SUBJECT_ID(each, f"{field}.{index}", problems)
            if type(each) is str and each in seen:
                _wrong(problems, f"{field}.{index}", "duplicate", "is named twice")
            elif type(each) is str:
                seen.add(each)
        return value

    return check


def _payload(value: Any, field: str, problems: Problems) -> Any:
    if type(_parcel(value, field, problems)) is dict and "job_space_id" in value:
        SPACE_ID(value["job_space_id"], f"{field}.job_space_id", problems)
    return value


SCRIPT_ID = _printable(length=SCRIPT_ID_LENGTH, empty=True, null=True)
SUBJECT_ID = _printable(length=ID_LENGTH, empty=False)
SPACE_ID = _printable(length=ID_LENGTH, empty=True, null=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    wire: str
    name: str
    check: Check
    aliases: tuple[str, ...] = ()
    required: bool = False


FIELDS = (
    Field(wire="task_id", name="task_id", check=_task_id, required=True),
    Field(wire="task_goal", name="goal", check=_text(empty=False), aliases=("goal",), required=True),
    Field(wire="task_intent", name="intent", check=_text(empty=False), aliases=("intent",), required=True),
    Field(wire="task_priority_value", name="priority", check=_priority, aliases=("priority",), required=True),
    Field(wire="submitter_subject_id", name="submitter_subject_id", check=SUBJECT_ID, required=True),
    Field(wire="task_streeability_data", name="steerability", check=_steering, aliases=("task_steerability_data",)),
    Field(wire="task_knowledgebase_ptr", name="knowledgebase_ptr", check=_text(empty=True, null=True)),
    Field(wire="task_op_convertor_dsl_id", name="approval_script_id", check=SCRIPT_ID),
    Field(wire="task_execution_dsl", name="execution_dsl", check=_text(empty=True, null=True)),
    Field(wire="task_submission_ts", name="submission_ts", check=_submission_ts),
    Field(wire="task_completion_timeline", name="completion_timeline", check=_timeline),
    Field(wire="task_execution_mode", name="execution_mode", check=_mode),
    Field(wire="task_behavior_dsl_map", name="behavior_dsl_map", check=_behavior_map),
    Field(wire="task_contracts_map", name="contracts_map", check=_parcel),
    Field(wire="task_verification_subject_id", name="verification_subject_id", check=_printable(length=ID_LENGTH, empty=True)),
    Field(wire="task_job_submission_data", name="payload", check=_payload),
    Field(wire="job_space_id", name="job_space_id", check=SPACE_ID),
)
SUB_TASK_FIELDS = (
    Field(wire="sub_task_id", name="task_id", check=_task_id, required=True),
    Field(wire="task_id", name="parent_task_id", check=_task_id, required=True),
    Field(wire="sub_task_goal", name="goal", check=_text(empty=False), aliases=("goal",), required=True),
    Field(wire="sub_task_intent", name="intent", check=_text(empty=False), aliases=("intent",), required=True),
    Field(wire="sub_task_priority_value", name="priority", check=_priority, aliases=("priority",), required=True),
    Field(wire="sub_task_streeability_data", name="steerability", check=_steering, aliases=("sub_task_steerability_data",)),
    Field(wire="sub_task_knowledgebase_ptr", name="knowledgebase_ptr", check=_text(empty=True, null=True)),
    Field(wire="parent_subject_ids", name="parent_subject_ids", check=_subjects(empty=False), required=True),
    Field(wire="parent_input_data_ptr", name="parent_input_data_ptr", check=_text(empty=True, null=True)),
    Field(wire="assigned_subject_ids", name="assigned_subject_ids", check=_subjects(empty=True)),
    Field(wire="sub_task_submission_ts", name="submission_ts", check=_submission_ts),
    Field(wire="sub_task_completion_timeline", name="completion_timeline", check=_timeline),
    Field(wire="sub_task_behavior_dsl_map", name="behavior_dsl_map", check=_behavior_map),
    Field(wire="sub_task_contracts_map", name="contracts_map", check=_parcel),
    # Ours, beyond the ecosystem's entry; each may be left out.
    Field(wire="submitter_subject_id", name="submitter_subject_id", check=SUBJECT_ID),
    Field(wire="job_space_id", name="job_space_id", check=SPACE_ID),
    Field(wire="sub_task_execution_mode", name="execution_mode", check=_mode),
    Field(wire="sub_task_execution_dsl", name="execution_dsl", check=_text(empty=True, null=True)),
    Field(wire="sub_task_verification_subject_id", name="verification_subject_id", check=_printable(length=ID_LENGTH, empty=True)),
    Field(wire="sub_task_job_submission_data", name="payload", check=_payload),
)


class Form:
    """The fields of one kind of entry, and what follows from them."""

    def __init__(self, fields: tuple[Field, ...], name: str) -> None:
        self.name = name
        self.by_wire_name = {wire: field for field in fields for wire in (field.wire, *field.aliases)}
        self.required = tuple(field for field in fields if field.required)
        self.parcels = tuple(field.name for field in fields if field.check in (_parcel, _steering, _behavior_map, _timeline, _payload))


TASK_FORM, SUB_TASK_FORM = Form(FIELDS, "a task entry"), Form(SUB_TASK_FIELDS, "a sub-task entry")


class InitialJobParser:
    def parse(self, data: Any, *, kind: str = "", submitter: str = "") -> TaskEntry:
        """The entry in `data` (decoded JSON). `submitter` is used when it names none. Without a `kind`, an entry that has
        a sub_task_id is a sub-task. Raises Invalid with every problem, each with its field path."""
        problems: Problems = []
        if type(data) is not dict:
            _wrong_type(problems, "", "an object", data)
            raise Invalid(problems)
        is_part = kind == "sub_task" or (not kind and "sub_task_id" in data)
        form = SUB_TASK_FORM if is_part else TASK_FORM
        found: dict[str, Any] = {}
        for wire, value in data.items():
            field = form.by_wire_name.get(wire)
            if field is None:
                _unknown(wire, form, problems)
            elif field.name in found:
                _wrong(problems, wire, "duplicate", f"means the same as another name of {field.wire}: send one of them")
            else:
                found[field.name] = field.check(value, wire, problems)
        if submitter:
            found.setdefault("submitter_subject_id", submitter)
        for field in form.required:
            if field.name not in found:
                _wrong(problems, field.wire, "missing", "is required")
        for name in form.parcels:
            found.setdefault(name, {})
        found["job_space_id"] = _job_space(found, problems)
        if is_part:
            found["kind"] = "sub_task"
            if found.get("task_id") == found.get("parent_task_id"):
                _wrong(problems, "task_id", "own_parent", "is the sub-task itself")
        if problems:
            raise Invalid(problems)
        timeline = found["completion_timeline"]
        return TaskEntry(
            **found,
            **{name: instant(timeline[name], "", problems) for name in INSTANTS if name in timeline},
            body_hash=_hash(found),
            **({"approval_script_id": found["behavior_dsl_map"].get("approval_dsl_id") or ""} if is_part else {}),
        )


def _unknown(wire: str, form: Form, problems: Problems) -> None:
    shown = wire if len(wire) <= 80 and wire.isprintable() else ascii(wire[:80])[1:-1]
    if wire in SERVER_OWNED:
        _wrong(problems, shown, "server_owned", "is set by the platform and cannot be sent")
    else:
        _wrong(problems, shown, "unknown", f"is not a field of {form.name}")


def _job_space(found: dict[str, Any], problems: Problems) -> Any:
    """`job_space_id` stands at the top level or in the payload; when in both, they must agree."""
    top, payload = found.get("job_space_id", ""), found["payload"]
    if type(payload) is not dict or not payload.get("job_space_id"):
        return top
    if top and payload["job_space_id"] != top:
        _wrong(problems, "job_space_id", "conflict", "differs from task_job_submission_data.job_space_id")
    return payload["job_space_id"]


def _hash(found: dict[str, Any]) -> str:
    try:
        return hashlib.sha256(orjson.dumps(found, option=orjson.OPT_SORT_KEYS)).hexdigest()
    except orjson.JSONEncodeError:
        # Only callers inside can get here: from the wire nothing comes that JSON cannot say.
        raise Invalid([Problem(field="", code="not_json", message="holds a value that JSON cannot say")]) from None
