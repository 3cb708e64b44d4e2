"""The examples of docs/expansion.md say what happens."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.core.errors import Invalid
from apps.dsl import expanding
from apps.workflows import expansion
from apps.workflows.expansion import combine, templates
from apps.workflows.expansion.result_schema import ResultSchema
from jobplatform.env import BASE_DIR

PAGE = (BASE_DIR / "docs" / "expansion.md").read_text()
BLOCKS = [(kind, json.loads(body)) for kind, body in re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.DOTALL)]
STARTED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def examples() -> list[tuple[dict[str, Any], dict[str, Any], str, Any]]:
    found = []
    for index, (kind, body) in enumerate(BLOCKS):
        if kind == "task":
            context = BLOCKS[index + 1][1] if BLOCKS[index + 1][0] == "context" else {"thousand": list(range(1000))}
            end = index + 2 if BLOCKS[index + 1][0] == "context" else index + 1
            found.append((body, context, *BLOCKS[end]))
    return found


def only(kind: str) -> Any:
    (found,) = [body for name, body in BLOCKS if name == kind]
    return found


@pytest.mark.parametrize(("task", "context", "kind", "expected"), examples())
def test_a_task_becomes_the_items_or_the_problem_of_the_page(task: Any, context: Any, kind: str, expected: Any) -> None:
    config = task["expansion_config"]
    try:
        made = expansion.expand(config, task, context, run_starlark=expanding.run)
    except Invalid as error:
        assert [problem.json() for problem in error.problems] == [expected] and kind == "problem"
    else:
        assert kind == "items"
        assert [(item.identifier, item.values) for item in made.items] == list(expected.items())
        assert expansion.count(config, task, context, run_starlark=expanding.run) == len(expected)


def test_every_example_of_the_page_is_run() -> None:
    assert len(examples()) == len(re.findall(r'"expansion_config": ?\{', PAGE)) > 15


def rows(heading: str) -> list[list[str]]:
    table = PAGE.split(heading)[1].split("\n\n")[0]
    cells = [[one.strip().replace("\\|", "|") for one in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines() if line]
    return [row for row in cells if not set(row[0]) <= {"-"}]


def test_each_template_becomes_what_the_table_says() -> None:
    given, table = only("values"), rows("| template | becomes | because |\n")
    assert len(table) > 8
    for template, becomes, _ in table:
        assert templates.render(json.loads(template.strip("`")), given) == json.loads(becomes.strip("`")), template


def test_each_bad_template_is_told_as_the_table_says() -> None:
    for template, message in rows("| template | problem |\n"):
        with pytest.raises(templates.TemplateError) as raised:
            templates.render(json.loads(template.strip("`")), only("values"))
        assert raised.value.problems[0].message == message


@pytest.mark.parametrize("output_format", expansion.OUTPUT_FORMATS)
def test_the_outputs_are_those_of_the_page(output_format: str) -> None:
    times = (STARTED, STARTED + timedelta(minutes=1))
    ended = [
        combine.Ended(index, one["identifier"], one["status"], one.get("result"), one.get("reason", ""), *times)
        for index, one in enumerate(only("ended"))
    ]
    assert json.dumps(combine.combine(output_format, ["review"], ended)) == json.dumps(only(output_format))


def test_the_result_that_does_not_fit_its_schema() -> None:
    expected = next(BLOCKS[index + 1][1] for index, (kind, _) in enumerate(BLOCKS) if kind == "result")
    assert [problem.json() for problem in ResultSchema(only("schema")).problems(only("result"))] == [expected]
