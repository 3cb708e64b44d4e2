"""Who provides what a task names: variables of templates, arrays of expansions, result keys.

A task may name what the context holds from the start, its own further fields, the variables of its items, and what the
steps it waits for (directly or not) write. Anything else would be an error when it runs, so it is one before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from apps.core.errors import Problem
from apps.workflows import expansion
from apps.workflows.document import graph
from apps.workflows.document.fields import Problems, shown
from apps.workflows.document.graph import Draft, Order
from apps.workflows.document.spec import Limits, TaskSpec
from apps.workflows.expansion import BadExpansion, result_schema, templates
from apps.workflows.expansion.shape import kind

TEMPLATES = ("message_template", "input", "shared_instructions")
"""Fields of a task that are templates."""

AHEAD_WORK = 200_000
"""of counting what expansions of one document would make, before anything runs: some tenths of a second"""

SCRIPTS_AHEAD = 100
"""different scripts of one document that are compiled before anything runs: a millisecond or two each"""

CheckScript = Callable[[str], Sequence[Problem]]
"""What is wrong with a script, without running it."""
Writers = dict[str, list[int]]
"""Result key → positions of the steps that write it, in the order of the session."""


def check(
    drafts: Sequence[Draft], tasks: Mapping[str, TaskSpec], context: Mapping[str, Any], order: Order | None, ahead: Ahead,
    problems: Problems,
) -> dict[str, tuple[str, ...]]:  # fmt: skip
    """Adds what is wrong; returns `SessionSpec.writers`. Without an order (names unresolved, a circle) what any step writes
    counts as provided: one mistake is told once."""
    found = _writers(drafts, order)
    before = graph.steps_before(drafts, order) if order else None
    if before is not None:
        _ordered(found, before, drafts, problems)
    separate_keys = _Separate(drafts, tasks)
    for position, draft in enumerate(drafts):
        if draft.is_step:
            seen = None if before is None else before[position]
            _Names(draft, tasks[draft.path], context, found, drafts, seen, separate_keys, ahead, problems).check()
    return {key: tuple(drafts[one].path for one in positions) for key, positions in found.items()}


def writers(drafts: Sequence[Draft], order: Order | None) -> dict[str, tuple[str, ...]]:
    return {key: tuple(drafts[one].path for one in positions) for key, positions in _writers(drafts, order).items()}


def separate(name: str, tasks: Iterable[TaskSpec]) -> bool:
    """May a step with separate outputs write this key?"""
    return any(_is_separate(task) and any(name.endswith(f"_{key}") for key in task.result_keys) for task in tasks)


def _is_separate(task: TaskSpec) -> bool:
    return task.expansion_config is not None and task.expansion_config.get("output_format") == "separate"


class _Separate:
    """Steps with separate outputs write `<identifier>_<result key>`, which nobody knows before they run."""

    def __init__(self, drafts: Sequence[Draft], tasks: Mapping[str, TaskSpec]) -> None:
        self.steps = [
            (position, draft.result_keys)
            for position, draft in enumerate(drafts)
            if draft.is_step and _is_separate(tasks[draft.path])
        ]

    def may_write(self, name: str, before: int | None) -> bool:
        return any(
            (before is None or before >> position & 1) and any(name.endswith(f"_{key}") for key in keys) for position, keys in self.steps
        )


def _writers(drafts: Sequence[Draft], order: Order | None) -> Writers:
    found: Writers = {}
    positions = [point >> 1 for point in order.points if not point & 1] if order else range(len(drafts))
    for position in positions:
        for key in drafts[position].result_keys:
            found.setdefault(key, []).append(position)
    return found


def _ordered(found: Writers, before: list[int], drafts: Sequence[Draft], problems: Problems) -> None:
    for key, positions in found.items():
        for first, second in zip(positions, positions[1:], strict=False):
            if not before[second] >> first & 1:
                told = f"`{key}` is written by {drafts[first].path} and by {drafts[second].path}, and neither waits for the other"
                problems.add(f"{drafts[second].where}.result_keys", "duplicate_result_key", f"{told}: name different result_keys")


class _Names:
    """The names one step may use, and the places where it uses some."""

    def __init__(
        self, draft: Draft, task: TaskSpec, context: Mapping[str, Any], found: Writers, drafts: Sequence[Draft], before: int | None,
        separate: _Separate, ahead: Ahead, problems: Problems,
    ) -> None:  # fmt: skip
        self.draft, self.task, self.context, self.writers, self.drafts = draft, task, context, found, drafts
        self.before, self.separate, self.ahead, self.problems = before, separate, ahead, problems

    def check(self) -> None:
        items: set[str] | None = set()
        if self.task.expansion_config is not None:
            items = self._expansion(self.task.expansion_config)
        if self.task.result_schema is not None:
            self.problems.extend(self.ahead.schemas.problems(self.task.result_schema, f"{self.draft.where}.result_schema"))
        for name in TEMPLATES:
            if value := getattr(self.task, name):
                self._template(value, f"{self.draft.where}.{name}", items)
        if undo := self.task.compensation:
            # It runs after the step, and may name what the step wrote.
            own = None if items is None else items | set(self.task.result_keys)
            for name in ("message_template", "input"):
                if value := getattr(undo, name):
                    self._template(value, f"{self.draft.where}.compensation.{name}", own)

    def provided(self, name: str) -> bool:
        """By the context, or a step this one waits for."""
        if name in self.context:
            return True
        if self.before is None:
            return name in self.writers or self.separate.may_write(name, None)
        return any(self.before >> one & 1 for one in self.writers.get(name, ())) or self.separate.may_write(name, self.before)

    def _template(self, template: Any, where: str, items: set[str] | None) -> None:
        try:
            compiled = templates.compile(template, where=where)
        except templates.TemplateError as error:
            self.problems.extend(error.problems)
            return
        if items is None:
            return  # only the expansion itself knows its variables
        for name, root in {one.name: one.path[0] for one in compiled.placeholders if not one.has_default}.items():
            if root in items or root in self.task.data or self.provided(root) or (name != root and self.provided(name)):
                continue
            self._missing(where, "unknown_variable", "{" + shown(name) + "}", root, items)

    def _missing(self, where: str, code: str, told: str, root: str, items: Iterable[str]) -> None:
        if root in self.writers:
            owners = [self.drafts[one].path for one in self.writers[root]]
            if owners == [self.draft.path]:
                message = f"{told}: `{root}` is what this task itself writes"
            else:
                message = f"{told}: `{root}` is written by {', '.join(owners[:3])}, which this task does not wait for"
            self.problems.add(where, "not_waited_for", message)
            return
        near = next(
            (near for names in (items, self.task.data, self.context, self.writers) if (near := self.problems.near(root, list(names)))), ""
        )
        self.problems.add(where, code, f"{told}: nothing provides `{shown(root)}`{near}")

    def _expansion(self, config: Mapping[str, Any]) -> set[str] | None:
        """The variables of its items; None when they are not known before it runs."""
        where = f"{self.draft.where}.expansion_config"
        wrong = expansion.validate(config, where)
        if wrong:
            self.problems.extend(wrong)
            return None
        if "script" in config:
            self.problems.extend(replace(one, field=f"{where}.script") for one in self.ahead.wrong_with(config["script"]))
        data = self.task.expansion_data
        missing = False
        for path in expansion.sources(config, data):
            root = path.partition(".")[0]
            if not self.provided(root) and not (path != root and self.provided(path)):
                self._missing(f"{where}.array_mapping", "unknown_source", f"array `{shown(path)}`", root, ())
                missing = True
        if not missing and known_ahead(config, data, self.writers):
            try:
                self.ahead.count(config, data, self.context, where)
            except BadExpansion as error:
                self.problems.extend(error.problems)
        return expansion.item_variables(config, data)


class Ahead:
    """What can be known of expansions before they run, as long as that is cheap: an absurd one, or a script that does not compile, is
    refused at once."""

    def __init__(self, limits: Limits, check_script: CheckScript | None = None) -> None:
        self.limits, self.left = limits, limits.items
        self.check_script, self.scripts = check_script, dict[str, Sequence[Problem]]()
        self.work = expansion.Work(AHEAD_WORK)
        self.schemas = result_schema.Judge()

    def wrong_with(self, script: str) -> Sequence[Problem]:
        if self.check_script is None or (script not in self.scripts and len(self.scripts) >= SCRIPTS_AHEAD):
            return ()
        if script not in self.scripts:
            self.scripts[script] = self.check_script(script)
        return self.scripts[script]

    def count(self, config: Mapping[str, Any], data: Mapping[str, Any], context: Mapping[str, Any], where: str) -> None:
        """Raises BadExpansion."""
        if self.left <= 0 or self.work.is_done:
            return
        try:
            total = expansion.count(config, data, context, limit=self.limits.items, where=where, work=self.work)
        except BadExpansion:
            if self.work.is_done:
                return  # perhaps it is only the last straw: it is judged when it runs
            raise
        if made_to_count(config):
            self.left -= total


def made_to_count(config: Mapping[str, Any]) -> bool:
    """Must its items be made to know how many they are?"""
    return kind(config) == "custom" or any(config.get(name) for name in ("include", "exclude", "nested"))


def known_ahead(config: Mapping[str, Any], data: Mapping[str, Any], writers: Collection[str]) -> bool:
    """Do its arrays stand in the task or in the context that the session begins with?"""
    if "script" in config:
        return False
    return not any(name in writers for name in expansion.reads(config, data))
