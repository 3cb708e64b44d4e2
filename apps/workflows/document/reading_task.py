"""A task of the document, field by field, as a `TaskSpec`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from apps.workflows.document import fields
from apps.workflows.document.fields import Check, Problems
from apps.workflows.document.spec import Compensation, Join, Retry, TaskSpec

ON_FAILURE = {"fail": "fail", "skip": "skip", "continue": "continue", "fail_group": "fail", "skip_dependents": "skip"}
EXECUTORS = {"agent": "agent", "celery": "celery"}
JOINS = ("all", "any", "at_least", "percent", "first")

_LONG = fields.text()
SETTINGS: Mapping[str, Check] = {
    "executor": fields.choice(EXECUTORS),
    "agent_class": fields.text(length=fields.NAME_LENGTH, empty=False),
    "agent": fields.printable,
    "tools": fields.list_of(fields.tool),
    "shared_instructions": _LONG,
    "message_template": _LONG,
    "files_folder": fields.text(length=1024),
    "max_retries": fields.whole(0, "retries"),
    "retry_delays": fields.list_of(fields.wait),
    "timeout_s": fields.seconds,
    "step_timeout_s": fields.seconds,
    "on_failure": fields.choice(ON_FAILURE),
    "fail_fast": fields.boolean,
    "continue_on_error": fields.boolean,
    "chunk_size": fields.whole(1, "items"),
    "max_parallel": fields.whole(1, "max_parallel"),
}
"""Fields of a task with a check of their own; `defaults` may hold each of them, and `retry_backoff`."""

BACKOFF: Mapping[str, Check] = {
    "initial_s": fields.wait,
    "factor": fields.number(1, 100),
    "max_s": fields.wait,
    "jitter": fields.number(0, 1),
}
DEFAULTS = frozenset({*SETTINGS, "retry_backoff"})
FIELDS = frozenset(
    {
        *DEFAULTS, "key", "name", "description", "dependencies", "optional_dependencies", "input", "result_keys", "result_key",
        "result_schema", "expansion_config", "join", "compensation",
    }
)  # fmt: skip
COMPENSATION = frozenset({"executor", "agent_class", "agent", "message_template", "input", "timeout_s"})


def settings(document: Mapping[str, Any], where: str, problems: Problems) -> dict[str, Any]:
    """The checked settings among the fields of a task, of `defaults` or of a compensation."""
    found: dict[str, Any] = {}
    prefix = f"{where}." if where else ""
    for name, value in document.items():
        if check := SETTINGS.get(name):
            found[name] = check(value, prefix + name, problems)
        elif name == "retry_backoff":
            found[name] = _backoff(value, prefix + name, problems)
    return found


def defaults(value: Any, where: str, problems: Problems) -> dict[str, Any]:
    before = len(problems)
    given = fields.obj(value, where, problems)
    fields.unknown(given, DEFAULTS, where, problems)
    found = settings(given, where, problems)
    if "max_retries" not in given and "retry_delays" in found:
        found["max_retries"] = len(found["retry_delays"])
    return found if len(problems) == before else {}


def read_task(
    raw: dict[str, Any], *, key: str, where: str, given: Mapping[str, Any], processors: Collection[str] | None, problems: Problems
) -> tuple[TaskSpec, dict[str, Any]]:
    """(what to do, all its settings with the session's defaults). `processors` None: whatever is named, is taken."""
    own = settings(raw, where, problems)
    config = raw.get("expansion_config")
    expanded = config is not None
    if expanded:
        # An expansion may say these itself; the task's own word counts before it, the session's defaults after it.
        given = {**given, **_of_expansion(fields.obj(config, f"{where}.expansion_config", problems))}
    found = {**given, **own}
    executor = _executor(found, where, processors, problems)
    fail_fast = found.get("fail_fast", False)
    if own.get("fail_fast") and own.get("continue_on_error"):
        problems.add(f"{where}.fail_fast", "contradiction", "fail_fast and continue_on_error exclude each other")
    if own.get("continue_on_error") and "fail_fast" not in own:
        fail_fast = False  # the task's own word on one of the two overrules a default of the other
    goes_on = found.get("continue_on_error", expanded) and not fail_fast
    task = TaskSpec(
        executor=executor,
        agent_class=found.get("agent_class", ""),
        agent=found.get("agent", ""),
        tools=found.get("tools", ()),
        shared_instructions=found.get("shared_instructions", ""),
        message_template=found.get("message_template", ""),
        files_folder=found.get("files_folder", ""),
        input=fields.obj(raw["input"], f"{where}.input", problems) if "input" in raw else {},
        result_keys=_result_keys(raw, key, where, problems),
        result_schema=_schema(raw.get("result_schema"), f"{where}.result_schema", problems),
        expansion_config=config if type(config) is dict else None,
        join=_join(raw["join"], f"{where}.join", problems) if "join" in raw else Join(rule="ended" if goes_on and expanded else "all"),
        retry=_retry(own, given),
        timeout_s=found.get("timeout_s"),
        fail_fast=fail_fast,
        continue_on_error=goes_on,
        chunk_size=found.get("chunk_size"),
        compensation=_compensation(raw["compensation"], f"{where}.compensation", executor, processors, problems)
        if raw.get("compensation") is not None
        else None,
        data={name: value for name, value in raw.items() if name not in FIELDS},
    )
    return task, found


def _schema(value: Any, where: str, problems: Problems) -> dict[str, Any] | None:
    return None if value is None else fields.obj(value, where, problems)


def _of_expansion(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an expansion_config says of the running of its items. Its types are judged with the rest of it."""
    kinds = {"max_parallel": int, "fail_fast": bool, "continue_on_error": bool}
    return {name: config[name] for name, kind in kinds.items() if type(config.get(name)) is kind}


def _executor(found: Mapping[str, Any], where: str, processors: Collection[str] | None, problems: Problems) -> Any:
    named = found.get("agent_class", "")
    executor = found.get("executor") or ("celery" if processors is not None and named in processors else "agent")
    if executor != "celery" or processors is None:
        return executor
    if not named:
        problems.add(f"{where}.agent_class", "required", "a task that runs in a worker names its registered processor")
    elif named not in processors:
        told = f"no processor `{fields.shown(named)}` is registered{problems.near(named, processors)}"
        problems.add(f"{where}.agent_class", "unknown_processor", told)
    return executor


def _result_keys(raw: Mapping[str, Any], key: str, where: str, problems: Problems) -> tuple[str, ...]:
    if "result_keys" in raw and "result_key" in raw:
        problems.add(f"{where}.result_key", "contradiction", "stands beside result_keys; name them all there")
    if "result_keys" in raw:
        return fields.result_keys(raw["result_keys"], f"{where}.result_keys", problems)
    if "result_key" in raw:
        before = len(problems)
        one = fields.text(length=128, empty=False)(raw["result_key"], f"{where}.result_key", problems)
        if len(problems) == before and not fields.RESULT_KEY.fullmatch(one):
            problems.add(f"{where}.result_key", "bad_key", "must be 1 to 128 of A-Z a-z 0-9 _ - and not start with -")
        return (one,)
    return (key,) if key else ()


def _join(value: Any, where: str, problems: Problems) -> Join:
    """`"all"`, `{"rule": "any"}`, `{"at_least": 3}`, `{"percent": 80}`, `{"first": 1}`; with rule and n: `{"rule": "first", "n": 1}`."""
    if type(value) is str:
        value = {"rule": value}
    if type(value) is not dict:
        problems.wrong_type(where, "a rule or an object", value)
        return Join()
    short = [rule for rule in ("at_least", "percent", "first") if rule in value]
    fields.unknown(value, ("rule", "n", "at_least", "percent", "first"), where, problems)
    if len(short) + ("rule" in value) != 1:
        problems.add(where, "contradiction" if value else "required", f"must name one rule of {', '.join(JOINS)}")
        return Join()
    rule = short[0] if short else fields.choice({name: name for name in JOINS})(value["rule"], f"{where}.rule", problems)
    if rule in ("all", "any"):
        return Join(rule=rule)
    at = f"{where}.{rule}" if short else f"{where}.n"
    n = value[rule] if short else value.get("n")
    check = fields.number(0, 100, above=True) if rule == "percent" else fields.whole(1, "items")
    return Join(rule=rule, n=check(n, at, problems))


def _backoff(value: Any, where: str, problems: Problems) -> dict[str, float]:
    given = fields.obj(value, where, problems)
    fields.unknown(given, BACKOFF, where, problems)
    return {name: BACKOFF[name](one, f"{where}.{name}", problems) for name, one in given.items() if name in BACKOFF}


def _retry(own: Mapping[str, Any], given: Mapping[str, Any]) -> Retry:
    # Delays and backoff exclude each other: the task's own word counts before the session's, the list before the curve.
    delays = own.get("retry_delays", () if "retry_backoff" in own else given.get("retry_delays", ()))
    curve = {} if delays else {**given.get("retry_backoff", {}), **own.get("retry_backoff", {})}
    most = own.get("max_retries", len(own["retry_delays"]) if "retry_delays" in own else given.get("max_retries", 0))
    return Retry(max_retries=most, delays=tuple(delays), **curve)


def _compensation(value: Any, where: str, executor: Any, processors: Collection[str] | None, problems: Problems) -> Compensation | None:
    given = fields.obj(value, where, problems)
    fields.unknown(given, COMPENSATION, where, problems)
    found = settings({name: one for name, one in given.items() if name in COMPENSATION}, where, problems)
    if "agent_class" not in found and "message_template" not in found and "input" not in given:
        problems.add(where, "required", "says what undoes the step: agent_class, message_template or input")
    if "executor" not in found and "agent_class" not in found and executor == "celery":
        found["executor"] = "agent"  # the step's own processor does not undo it
    return Compensation(
        executor=_executor(found, where, processors, problems),
        agent_class=found.get("agent_class", ""),
        agent=found.get("agent", ""),
        message_template=found.get("message_template", ""),
        input=fields.obj(given["input"], f"{where}.input", problems) if "input" in given else {},
        timeout_s=found.get("timeout_s"),
    )
