"""TaskExpansion: the expansion of a task document, by the names the specification gives it.

The work is done by `templates`, `expansion` and `combine`; this is what processors, scripts and notebooks use when they
hold a task as a plain dict and want the tasks it becomes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.workflows import expansion
from apps.workflows.expansion import ExpandedItem, combine, identifiers, templates
from apps.workflows.expansion.items import DEFAULT_LIMIT, RunStarlark

TEMPLATES = ("message_template", "shared_instructions", "input", "files_folder")
"""Fields of a task that are rendered for each item."""


class TaskExpansion:
    """Pure and without state: one may be shared by threads."""

    def __init__(self, *, limit: int = DEFAULT_LIMIT, run_starlark: RunStarlark | None = None) -> None:
        self._limit = limit
        self._run_starlark = run_starlark

    def expand_task(self, task_data: Mapping[str, Any], context: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The tasks a task becomes; the task itself when it has no `expansion_config`, its templates rendered."""
        config = task_data.get("expansion_config")
        if config is None:
            return [self._task(task_data, context, None)]
        return self._expand_array_task(task_data, config, context)

    def _expand_array_task(
        self, task_data: Mapping[str, Any], expansion_config: Mapping[str, Any], context: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """One task per item, of any type of expansion: `key` and `name` end in the item's identifier, templates are
        rendered, `expanded_from` says of what it was made. Raises BadExpansion and TemplateError."""
        made = expansion.expand(expansion_config, task_data, context, limit=self._limit, run_starlark=self._run_starlark)
        return [self._task(task_data, context, item) for item in made.items]

    def format_structured_data(self, data: Any) -> str:
        """A value as it stands in a text: lists of plain values joined by ", ", objects as JSON."""
        return templates.text(data)

    def find_array_dependencies(self, task_data: Mapping[str, Any], context: Mapping[str, Any]) -> list[str]:
        """Paths of the arrays this task needs and neither it nor the context has yet: results to wait for."""
        config = task_data.get("expansion_config")
        if not config:
            return []
        wanted = sorted(expansion.sources(config, task_data))
        return [path for path in wanted if not expansion.holds_list(context, path)]

    def replace_template_vars(self, template: Any, replacements: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
        """The template with its variables replaced; `replacements` go before the context. Raises TemplateError."""
        return templates.render(template, templates.Layered(replacements, context))

    def combine_results(self, task_data: Mapping[str, Any], outcomes: list[combine.Ended]) -> dict[str, Any]:
        """What the expanded task writes to the context."""
        config = task_data.get("expansion_config") or {}
        keys = task_data.get("result_keys") or [task_data.get("result_key") or task_data["key"]]
        return combine.combine(
            config.get("output_format"),
            keys,
            outcomes,
            process_array_output=config.get("process_array_output", True),
            merge_strategy=config.get("merge_strategy", "list"),
        )

    def _get_item_identifier(self, item: Mapping[str, Any], config: Mapping[str, Any]) -> str:
        """The identifier of an item's values by `config["identifiers"]`, "" when they hold none: then its number stands."""
        paths = [tuple(path.split(".")) for path in (config.get("identifiers") or {}).values()]
        return identifiers.safe(identifiers.written(item, paths)) if paths else ""

    def _task(self, task_data: Mapping[str, Any], context: Mapping[str, Any], item: ExpandedItem | None) -> dict[str, Any]:
        task = {name: value for name, value in task_data.items() if name != "expansion_config"}
        values = templates.Layered(item.values if item else {}, task_data, context)
        for name in TEMPLATES:
            if name in task:
                task[name] = templates.render(task[name], values, where=name)
        if item is not None:
            if "key" in task:
                task["key"] = f"{task['key']}_{item.identifier}"
            task["name"] = f"{task.get('name') or task_data.get('key') or 'task'} {item.name_suffix}"
            task["expanded_from"] = {
                "base_task_id": task_data.get("task_id") or task_data.get("key") or "",
                "sequence_num": item.index + 1,
                "identifier": item.identifier,
                "item_data": item.values,
            }
        return task
