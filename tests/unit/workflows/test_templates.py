"""Templates: `{variable}` in a task's texts."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workflows.expansion import templates
from apps.workflows.expansion.templates import Layered, TemplateError

USER = {"user": {"name": "Alice", "tags": ["a", "b"], "address": {"city": "Oslo"}}, "n": 3, "nothing": None, "yes": True}


@pytest.mark.parametrize(
    ("template", "becomes"),
    [
        ("Greet {user.name}", "Greet Alice"),
        ("{user.name} of {user.address.city}, {user.tags.1}", "Alice of Oslo, b"),
        ("tags: {user.tags}", "tags: a, b"),
        ("at {user.address}", 'at {"city":"Oslo"}'),
        ("{n} {yes} {nothing}", "3 true null"),
        ("{ user.name }", "Alice"),
        ("{n}", 3),
        ("{user.tags}", ["a", "b"]),
        ("{user}", USER["user"]),
        ({"a": "{user}", "b": ["{n}", {"c": "{user.name}!"}], "d": 1}, {"a": USER["user"], "b": [3, {"c": "Alice!"}], "d": 1}),
        ({"{user.name}": 1}, {"Alice": 1}),
    ],
)
def test_a_placeholder_becomes_its_value(template: Any, becomes: Any) -> None:
    assert templates.render(template, USER) == becomes


@pytest.mark.parametrize(
    ("template", "becomes"),
    [
        ("{who|nobody}", "nobody"),
        ("Hello {who|dear friend}!", "Hello dear friend!"),
        ("{count|10}", 10),
        ("{list|[1, 2]}", [1, 2]),
        ("{nothing|none yet}", "none yet"),
        ("{user.age|unknown}", "unknown"),
        ("[{who|}]", "[]"),
    ],
)
def test_a_default_stands_for_what_is_unknown_or_null(template: str, becomes: Any) -> None:
    assert templates.render(template, USER) == becomes


@pytest.mark.parametrize(
    ("template", "becomes"),
    [
        ("{{user.name}}", "{user.name}"),
        ('Answer as {"score": 1}', 'Answer as {"score": 1}'),
        ('Answer as {"a": {"b": {n}}}', 'Answer as {"a": {"b": 3}}'),
        ('{{"a": {{"b": {n}}}}}', '{"a": {"b": 3}}'),
        (r"\d{3} {} {1,3} {1.5} [{", r"\d{3} {} {1,3} {1.5} [{"),
        ("a }} b } c", "a }} b } c"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_a_brace_that_opens_no_name_is_text(template: str, becomes: str) -> None:
    assert templates.render(template, USER) == becomes


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("Hello {usr.name}", "'usr'.*did you mean 'user'"),
        ("{user.nmae}", "user is an object without 'nmae'; did you mean 'name'"),
        ("{user.tags.7}", "user.tags is a list of 2 without '7'"),
        ("{n.x}", "n is a plain value without 'x'"),
        ("{__class__}", "'__class__'"),
        ("{user.__class__}", "without '__class__'"),
        ("{user.name.__len__}", "without '__len__'"),
        ("{user.tags.-1}", "without '-1'"),
    ],
)
def test_an_unknown_variable_is_an_error_that_names_it_and_its_place(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message) as raised:
        templates.render({"a": ["", template]}, USER, where="tasks[0].input")
    assert [problem.field for problem in raised.value.problems] == ["tasks[0].input.a[1]"]
    assert raised.value.problems[0].code == "unknown_variable"


@pytest.mark.parametrize("template", ["{user name}", "{return 1;}", "{user", "{user.}", "{user..name}", "{a[0]}", "{user!r}"])
def test_what_looks_like_a_placeholder_and_is_none_is_an_error_too(template: str) -> None:
    with pytest.raises(TemplateError, match="is no placeholder"):
        templates.variables(template)


def test_its_variables_are_known_before_it_runs() -> None:
    template = {"a": "{user.name} {x|1}", "b": ["{n}", {"{key}": "{{not}}"}]}
    assert templates.variables(template) == {"user", "n", "key"}
    assert templates.variables(template, with_defaults=True) == {"user", "n", "key", "x"}
    problems = templates.problems("{usr} {x|1} {n}", {"user", "n"}, where="tasks[0].message_template")
    assert [(one.field, one.code) for one in problems] == [("tasks[0].message_template", "unknown_variable")]
    assert "did you mean 'user'" in problems[0].message


def test_an_item_goes_before_the_context() -> None:
    compiled = templates.compile("{x} {y}")
    assert compiled.render(Layered({"x": 1}, {"x": 2, "y": 3})) == "1 3"


def test_a_context_key_with_a_point_in_it_can_be_named() -> None:
    assert templates.render("{report.pdf_summary}", {"report.pdf_summary": "good", "report": {}}) == "good"
    assert templates.render("{ann@x.org_summary}", {"ann@x.org_summary": "good"}) == "good"


def test_a_small_template_cannot_become_a_huge_text() -> None:
    with pytest.raises(TemplateError, match="longer than"):
        templates.render("{x}" * 100, {"x": "y" * 10_000})
    with pytest.raises(TemplateError, match="longer than"):
        templates.render(["{x} {x}"] * 1000, {"x": "y" * 10_000})


texts = st.text(alphabet=string.ascii_letters + "{}|. \"'\\\n", max_size=40)


def test_a_large_object_given_to_many_items_is_counted_each_time() -> None:
    compiled, step = templates.compile({"all": "{config}"}, where="main.fan"), templates.StepBudget()
    values = {"config": ["x" * 1_000_000]}
    with pytest.raises(TemplateError, match="main.fan.all: what is rendered for all items takes more than 256 MB"):
        for _ in range(300):
            compiled.render(values, step)
    assert compiled.render(values) == {"all": values["config"]}


plain = st.none() | st.booleans() | st.integers(-9, 9) | texts
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


@given(values)
def test_what_a_value_holds_is_never_a_template(value: Any) -> None:
    assert templates.render("{x}", {"x": value, "y": "!"}) == value
    assert templates.render("<{x}>", {"x": value, "y": "!"}) == f"<{templates.text(value)}>"
    assert templates.render({"a": ["{x}", "{y}"]}, {"x": "{y}", "y": value}) == {"a": ["{y}", value]}


@given(texts)
def test_any_text_renders_or_is_refused_and_without_braces_stays_what_it_is(text: str) -> None:
    try:
        rendered = templates.render(text, {})
    except TemplateError as error:
        assert error.problems[0].code in ("unknown_variable", "bad_placeholder")
    else:
        assert "{" in text or rendered == text


def test_many_braces_take_no_time() -> None:
    for template in ("{" * 64_000, "{1" * 32_000, "{{" + '{"' * 32_000, "{a|" * 20_000, "{" + "1" * 64_000, "{" + " " * 64_000):
        try:
            templates.variables(template)
        except TemplateError:
            continue
