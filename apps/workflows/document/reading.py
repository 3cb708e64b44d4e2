"""From a session document to a `SessionSpec`, or to the list of everything that is wrong with it.

Whole before anything runs: shape, names, dependencies and circles, expansions, template variables, limits. In linear time:
2,000 tasks with 10,000 dependencies take about 0.1 s, and what is beyond the limits is refused before it is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.workflows.document import fields, graph, provision
from apps.workflows.document.fields import Check, Problems
from apps.workflows.document.graph import Draft
from apps.workflows.document.provision import CheckScript
from apps.workflows.document.reading_task import ON_FAILURE, defaults, read_task
from apps.workflows.document.spec import LIMITS, ROOT, Limits, NodeSpec, SessionSpec, TaskSpec

MAIN = "main"
"""The group that a session of `tasks` alone is."""
PATH_LENGTH = 700
SESSION_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:@+=~,-]{{0,{fields.ID_LENGTH - 1}}}")
"""As task ids: it stands in URLs, keys, subjects and logs."""
SESSION_ID_RULE = f"1 to {fields.ID_LENGTH} of A-Z a-z 0-9 and _ . : @ + = ~ , - and must start with a letter, a digit or _"
RESERVED_IDS = frozenset({"actions", "bulk", "dry-run", "stream", "summary"})


def _session_id(value: Any, where: str, problems: Problems) -> str | None:
    if type(value) is not str:
        problems.wrong_type(where, "a string", value)
    elif not SESSION_ID.fullmatch(value):
        problems.add(where, "bad_id", f"must be {SESSION_ID_RULE}")
    elif value in RESERVED_IDS:
        problems.add(where, "reserved", "is a reserved word")
    else:
        return value
    return None


def _context(value: Any, where: str, problems: Problems) -> dict[str, Any]:
    given = fields.obj(value, where, problems)
    for key in given:
        if not 0 < len(key) <= fields.NAME_LENGTH or not key.isprintable():
            problems.add(f"{where}.{fields.shown(key)}", "bad_key", f"its name must be 1 to {fields.NAME_LENGTH} printable characters")
    return given


SESSION: Mapping[str, Check] = {
    "session_id": _session_id,
    "name": fields.text(length=fields.NAME_LENGTH),
    "description": fields.text(),
    "context": _context,
    "timeout_s": fields.seconds,
    "max_parallel": fields.whole(1, "max_parallel"),
    "on_failure": fields.choice(ON_FAILURE),
    "compensate": fields.boolean,
    "defaults": defaults,
    "job_space_id": fields.printable,
    "priority": fields.whole(PRIORITY_MIN, PRIORITY_MAX),
    "result_keys": fields.result_keys,
}
SESSION_FIELDS = frozenset({*SESSION, "task_groups", "tasks"})
GROUP: Mapping[str, Check] = {
    "name": fields.text(length=fields.NAME_LENGTH),
    "description": fields.text(),
    "timeout_s": fields.seconds,
    "max_parallel": fields.whole(1, "max_parallel"),
    "on_failure": fields.choice(ON_FAILURE),
}
GROUP_FIELDS = frozenset({*GROUP, "key", "dependencies", "optional_dependencies", "tasks", "task_groups"})


def parse(
    document: Any, *, processors: Collection[str], limits: Limits = LIMITS, check_script: CheckScript | None = None
) -> SessionSpec:
    """A document from outside, judged whole. Raises Invalid with every problem, each `field` a JSON path such as
    `task_groups[1].tasks[0].dependencies[2]`. `processors`: names of the registered TaskProcessors. `check_script`: what is wrong
    with a script before it runs; without it only the run can tell."""
    problems = Problems(limits)
    if type(document) is not dict:
        problems.wrong_type("", "an object", document)
        problems.raise_any()
    _within_limits(document, problems)
    problems.raise_any()
    reading = _Reading(document, processors, problems)
    reading.read()
    graph.resolve(reading.drafts, problems)
    order = graph.order(reading.drafts, problems)
    unresolved = any(len(draft.found) != len(draft.waits) for draft in reading.drafts)
    ahead = provision.Ahead(limits, check_script)
    given = reading.session.get("context", {})
    writers = provision.check(reading.drafts, reading.tasks, given, None if unresolved else order, ahead, problems)
    for index, key in enumerate(reading.session.get("result_keys") or ()):
        if key not in writers and key not in given and not provision.separate(key, reading.tasks.values()):
            problems.add(f"result_keys[{index}]", "unknown_result", f"no task writes `{key}`{problems.near(key, writers)}")
    problems.raise_any()
    return reading.spec(order, writers)


def load(document: Mapping[str, Any]) -> SessionSpec:
    """A stored `SessionSpec.document`: it was judged when it came, and is taken as it is, whatever is registered today."""
    problems = Problems(LIMITS)
    reading = _Reading(dict(document), None, problems)
    reading.read()
    graph.resolve(reading.drafts, problems)
    order = graph.order(reading.drafts, problems)
    problems.raise_any()
    return reading.spec(order, provision.writers(reading.drafts, order))


def _within_limits(document: dict[str, Any], problems: Problems) -> None:
    """What makes the rest safe to read: number of nodes, levels, dependencies; size and depth."""
    limits = problems.limits
    tasks = groups = edges = 0
    pending: list[tuple[Any, int]] = [(document, 0)]
    while pending:
        group, level = pending.pop()
        if type(group) is not dict:
            continue
        if level > limits.levels:
            problems.add("", "too_deep", f"groups stand more than {limits.levels} levels deep")
            return
        own = group.get("tasks")
        below = group.get("task_groups")
        own, below = own if type(own) is list else [], below if type(below) is list else []
        tasks, groups = tasks + len(own), groups + len(below)
        if tasks > limits.tasks:
            problems.add("", "too_many_tasks", f"more than {limits.tasks} tasks")
            return
        if groups > limits.groups:
            problems.add("", "too_many_groups", f"more than {limits.groups} groups")
            return
        for node in (group, *own):
            if type(node) is dict:
                edges += sum(len(names) for name in graph.FIELDS if type(names := node.get(name)) is list)
        pending += [(inner, level + 1) for inner in below]
    if edges > limits.edges:
        problems.add("", "too_many_dependencies", f"more than {limits.edges} dependencies")
        return
    try:
        size = len(orjson.dumps(document))
    except (TypeError, RecursionError):  # orjson.JSONEncodeError is a TypeError
        problems.add("", "not_json", "is not JSON, or nested far too deep")
        return
    if size > limits.bytes:
        problems.add("", "too_large", f"is larger than {limits.bytes} bytes")
    elif (where := _too_deep(document, limits.depth)) is not None:
        problems.add(where, "too_deep", f"nested deeper than {limits.depth}")
    elif type(context := document.get("context")) is dict and len(context) > limits.context_keys:
        problems.add("context", "too_many_keys", f"more than {limits.context_keys} keys")


def _too_deep(document: Any, depth: int) -> str | None:
    layer = [("", document)]
    for _ in range(depth):
        layer = [
            (name or str(key), inner)
            for name, value in layer
            for key, inner in (value.items() if type(value) is dict else enumerate(value))
            if type(inner) is dict or type(inner) is list
        ]
        if not layer:
            return None
    return layer[0][0]


class _Reading:
    def __init__(self, document: dict[str, Any], processors: Collection[str] | None, problems: Problems) -> None:
        self.document, self.processors, self.problems = document, processors, problems
        self.session: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        self.drafts: list[Draft] = []
        self.tasks: dict[str, TaskSpec] = {}
        self.raw: dict[str, dict[str, Any]] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.paths: set[str] = set()

    def read(self) -> None:
        document, problems = self.document, self.problems
        fields.unknown(document, SESSION_FIELDS, "", problems)
        self.session = {name: check(document[name], name, problems) for name, check in SESSION.items() if name in document}
        self.given = {"on_failure": self.session.get("on_failure", "fail"), **self.session.get("defaults", {})}
        if "task_groups" in document and "tasks" in document:
            problems.add("tasks", "contradiction", "a session holds task_groups or, as one group, tasks; not both")
        elif "tasks" in document:
            self._shorthand(document["tasks"])
        elif "task_groups" in document:
            groups = fields.listing(document["task_groups"], "task_groups", problems, most=problems.limits.groups)
            if not groups and type(document["task_groups"]) is list:
                problems.add("task_groups", "empty", "must not be empty")
            for index, raw in enumerate(groups):
                self._group(raw, index, ROOT, "task_groups")
        else:
            problems.add("task_groups", "required", "is required: the groups of tasks to run (or tasks, as one group)")

    def _shorthand(self, tasks: Any) -> None:
        self.drafts.append(Draft(path=MAIN, key=MAIN, parent=ROOT, where="", is_step=False))
        self.raw[MAIN], self.settings[MAIN] = {}, {}
        self._tasks(tasks, MAIN, "tasks")
        if tasks == []:
            self.problems.add("tasks", "empty", "must not be empty")

    def _tasks(self, tasks: Any, group: str, where: str) -> None:
        for index, raw in enumerate(fields.listing(tasks, where, self.problems, most=self.problems.limits.tasks)):
            self._task(raw, index, group, f"{where}[{index}]")

    def _group(self, raw: Any, index: int, parent: str, where: str) -> None:
        problems, at = self.problems, f"{where}[{index}]"
        if type(raw) is not dict:
            problems.wrong_type(at, "an object", raw)
            return
        draft = self._draft(raw, "group", index, parent, at)
        fields.unknown(raw, GROUP_FIELDS, at, problems)
        self.settings[draft.path] = {name: check(raw[name], f"{at}.{name}", problems) for name, check in GROUP.items() if name in raw}
        self.drafts.append(draft)
        if "tasks" in raw:
            self._tasks(raw["tasks"], draft.path, f"{at}.tasks")
        if "task_groups" in raw:
            for inner, group in enumerate(fields.listing(raw["task_groups"], f"{at}.task_groups", problems, most=problems.limits.groups)):
                self._group(group, inner, draft.path, f"{at}.task_groups")
        if not raw.get("tasks") and not raw.get("task_groups"):
            problems.add(at, "empty", "a group holds tasks or task_groups")

    def _task(self, raw: Any, index: int, parent: str, at: str) -> None:
        problems = self.problems
        if type(raw) is not dict:
            problems.wrong_type(at, "an object", raw)
            return
        draft = self._draft(raw, "task", index, parent, at)
        for name, length in (("name", fields.NAME_LENGTH), ("description", None)):
            if name in raw:
                fields.text(length=length)(raw[name], f"{at}.{name}", problems)
        task, settings = read_task(raw, key=draft.key, where=at, given=self.given, processors=self.processors, problems=problems)
        # A node whose key is wrong or taken has been told of; its result key would only say it again.
        draft.is_step, draft.result_keys = True, () if "?" in draft.path else task.result_keys
        self.tasks[draft.path], self.settings[draft.path] = task, settings
        self.drafts.append(draft)

    def _draft(self, raw: dict[str, Any], kind: str, index: int, parent: str, at: str) -> Draft:
        """The node's names. Where its own key is wrong it gets another one, so that the rest can be judged."""
        problems = self.problems
        stand_in = f"{kind}_{index + 1}"
        key = (fields.key(raw["key"], f"{at}.key", problems) if "key" in raw else stand_in) or f"{stand_in}?"
        path = f"{parent}.{key}" if parent else key
        if path in self.paths:
            problems.add(f"{at}.key", "duplicate_key", f"`{key}` stands twice here")
            path = f"{path}?{index}{kind}"
        elif len(path) > PATH_LENGTH:
            problems.add(at, "too_long", f"its path must have at most {PATH_LENGTH} characters")
        self.paths.add(path)
        self.raw[path] = raw
        draft = Draft(path=path, key=key, parent=parent, where=at, is_step=False)
        for name in graph.FIELDS:
            if name in raw:
                self._waits(draft, raw[name], name)
        return draft

    def _waits(self, draft: Draft, names: Any, field: str) -> None:
        where = f"{draft.where}.{field}"
        for index, name in enumerate(fields.listing(names, where, self.problems, most=self.problems.limits.edges)):
            if type(name) is not str:
                self.problems.wrong_type(f"{where}[{index}]", "a string", name)
            elif not name or len(name) > PATH_LENGTH:
                self.problems.add(f"{where}[{index}]", "unknown_dependency", f"must be a name of 1 to {PATH_LENGTH} characters")
            else:
                draft.waits.append((name, index, field == graph.FIELDS[0]))

    def spec(self, order: graph.Order | None, writers: Mapping[str, tuple[str, ...]]) -> SessionSpec:
        nodes = {draft.path: self._node(position, draft) for position, draft in enumerate(self.drafts)}
        paths = [self.drafts[point >> 1].path for point in order.points if not point & 1] if order else []
        session = {name: value for name, value in self.session.items() if name not in ("on_failure", "defaults")}
        return SessionSpec(document=self._decided(), nodes=nodes, order=tuple(paths), writers=writers, **session)

    def _node(self, position: int, draft: Draft) -> NodeSpec:
        settings, raw = self.settings[draft.path], self.raw[draft.path]
        required = {target: draft.waits[wait][2] for target, wait in draft.found}
        return NodeSpec(
            path=draft.path,
            key=draft.key,
            kind="step" if draft.is_step else "group",
            parent=draft.parent,
            position=position,
            name=raw.get("name", ""),
            description=raw.get("description", ""),
            needs=tuple(self.drafts[target].path for target, needed in required.items() if needed),
            wants=tuple(self.drafts[target].path for target, needed in required.items() if not needed),
            on_failure=settings.get("on_failure", self.session.get("on_failure", "fail")),
            timeout_s=settings.get("step_timeout_s" if draft.is_step else "timeout_s"),
            max_parallel=settings.get("max_parallel"),
            task=self.tasks.get(draft.path),
            where=draft.where,
        )

    def _decided(self) -> dict[str, Any]:
        """The document with the executor of every task in it: read again, it means the same whatever is registered then."""
        chosen = {id(self.raw[path]): task for path, task in self.tasks.items()}

        def task(raw: dict[str, Any]) -> dict[str, Any]:
            spec = chosen[id(raw)]
            undo = {"compensation": {**raw["compensation"], "executor": spec.compensation.executor}} if spec.compensation else {}
            return {**raw, "executor": spec.executor, **undo}

        def group(raw: dict[str, Any]) -> dict[str, Any]:
            found = dict(raw)
            if "tasks" in raw:
                found["tasks"] = [task(one) for one in raw["tasks"]]
            if "task_groups" in raw:
                found["task_groups"] = [group(one) for one in raw["task_groups"]]
            return found

        return group(self.document)
