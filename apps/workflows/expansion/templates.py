"""Templates of tasks: `{variable}`, `{variable.field}`, `{variable.0}`, `{variable|default}` in texts, at any depth of a document.

    render("Greet {user.name}", {"user": {"name": "Alice"}})        -> "Greet Alice"
    render({"who": "{user}"}, {"user": {"name": "Alice"}})          -> {"who": {"name": "Alice"}}

- A text that is exactly one placeholder becomes the value itself: an object stays an object, a number a number.
- Inside a longer text a list of plain values is joined by ", ", other lists and objects are written as JSON.
- A default stands for a variable that is unknown or null. It is JSON where it reads as JSON (`{n|0}`), else a text.
- `{{x}}` is the text `{x}`. A brace before anything but a name (`{"score": 1}`, `{}`, `{3}`) is text too.
- An unknown variable without a default is an error, never text. What a value holds is never itself a template.
- Names are looked up in objects and lists of plain JSON only: there is no attribute of anything to reach.

A template is compiled once and rendered per item: `compiled = compile(template, where=…)`, `compiled.render(values)`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from apps.core.errors import Invalid, Problem

MAX_TEXT = 256 * 1024
"""characters of one rendered text"""
MAX_RENDERED = 4 * 1024 * 1024
"""characters of all texts of one rendered template"""
MAX_TOGETHER = 256 * 1024 * 1024
"""characters and bytes of everything that is rendered for all items of one step"""
MAX_DEPTH = 64
SHOWN = 60
LARGE = 1000
"""bytes of an object whose size is remembered"""

Path = tuple[str, ...]
Values = Mapping[str, Any]


class TemplateError(Invalid):
    """A template that cannot be read, or not be rendered with these values."""

    code, sentence = "bad_template", "The template cannot be rendered."

    def __init__(self, where: str, code: str, message: str) -> None:
        super().__init__([Problem(field=where, code=code, message=message)])


class Layered(Mapping[str, Any]):
    """The first layer that has a key answers: an item's values before the context. Nothing is copied."""

    __slots__ = ("_layers",)

    def __init__(self, *layers: Values) -> None:
        self._layers = layers

    def __getitem__(self, key: str) -> Any:
        for layer in self._layers:
            if key in layer:
                return layer[key]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(key in layer for layer in self._layers)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for layer in self._layers for key in layer))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True)
class Placeholder:
    name: str
    """as it stands in the template: `user.name`"""
    path: Path
    default: Any = None
    has_default: bool = False

    def value(self, values: Values, where: str) -> Any:
        """Raises TemplateError."""
        path = self.path
        try:
            found = values[path[0]]
            for step in path[1:]:
                found = found[step] if type(found) is dict else _step(found, step)
        except (KeyError, IndexError):
            if self.name in values:  # a key with a point in it, as `report.pdf_summary`
                found = values[self.name]
            elif self.has_default:
                return self.default
            else:
                raise TemplateError(where, "unknown_variable", _unknown(self, values)) from None
        return self.default if found is None and self.has_default else found


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template. `render` may be called by many threads."""

    where: str
    placeholders: tuple[Placeholder, ...]
    _render: Callable[[Values, Budget], Any]

    def render(self, values: Values, step: StepBudget | None = None) -> Any:
        """The document with every placeholder replaced. Raises TemplateError naming the variable and its path. `step`: what
        the items of one step may take together."""
        return self._render(values, Budget(step))

    def variables(self, *, with_defaults: bool = False) -> set[str]:
        return {one.path[0] for one in self.placeholders if with_defaults or not one.has_default}


class StepBudget:
    """What all items of one step may take: a large object of the context, given to each of many items, is kept many times."""

    __slots__ = ("_large", "left")

    def __init__(self) -> None:
        self.left = MAX_TOGETHER
        self._large: dict[int, tuple[int, Any]] = {}

    def take(self, size: int, where: str) -> None:
        self.left -= size
        if self.left < 0:
            raise TemplateError(where, "too_large", f"what is rendered for all items takes more than {MAX_TOGETHER // 2**20} MB")

    def take_value(self, value: Any, where: str) -> None:
        if type(value) is dict or type(value) is list:
            size, _ = self._large.get(id(value)) or (len(orjson.dumps(value)), None)
            if size > LARGE:
                self._large[id(value)] = (size, value)  # kept, so that no other gets its id
            self.take(size, where)
        elif type(value) is str:
            self.take(len(value), where)


class Budget:
    """Counts the characters of one rendering, so that a small template cannot make a huge document."""

    __slots__ = ("left", "step")

    def __init__(self, step: StepBudget | None) -> None:
        self.left, self.step = MAX_RENDERED, step


def compile(template: Any, *, where: str = "") -> Template:
    """`where` is the template's path in the document; problems inside are named below it. Raises TemplateError."""
    found: list[Placeholder] = []
    render = _compiled(template, where, found, 0)
    return Template(where=where, placeholders=tuple(found), _render=render or (lambda _values, _budget: template))


def render(template: Any, values: Values, *, where: str = "") -> Any:
    """Compile and render once. Texts are remembered; to render a document many times, `compile` it."""
    return compile(template, where=where).render(values)


def variables(template: Any, *, with_defaults: bool = False, where: str = "") -> set[str]:
    """Names of the variables a template needs (`user` for `{user.name}`); `with_defaults` also those it can do without.
    Raises TemplateError."""
    return compile(template, where=where).variables(with_defaults=with_defaults)


def problems(template: Any, known: Collection[str], *, where: str = "") -> list[Problem]:
    """What is wrong with a template before anything runs: unreadable, or naming variables that nothing provides."""
    try:
        compiled = compile(template, where=where)
    except TemplateError as error:
        return error.problems
    missing = {one.path[0]: one for one in compiled.placeholders if not one.has_default}
    return [
        Problem(field=where, code="unknown_variable", message=_nothing_provides(one, known))
        for name, one in missing.items()
        if name not in known and one.name not in known
    ]


def text(value: Any) -> str:
    """A value inside a longer text."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is list and all(type(one) not in (list, dict) for one in value):
        return ", ".join(map(text, value))
    return orjson.dumps(value).decode()


# ---- compiling ---------------------------------------------------------------------------------------------

# Lengths are bounded: no text makes the search go back and forth.
_PLACEHOLDER = re.compile(r"\{\s*(\w[\w@+-]{0,127}(?:\.[\w@+-]{1,128}){0,16})\s*(?:\|([^{}]*))?\}")
_BRACES = re.compile(r"\{\{?|\}\}")
_OPENS = re.compile(r"\{\s*[^\W\d]")
"""What must be a placeholder: a brace and then a letter. Sent as text it would be an unresolved variable."""


@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[str | Placeholder, ...] | str:
    """Texts and placeholders in turn; a sentence when the template cannot be read."""
    parts: list[str | Placeholder] = []
    literal: list[str] = []
    position = start = opened = 0
    while brace := _BRACES.search(template, position):
        position = brace.start()
        if brace.group() == "{{" or (brace.group() == "}}" and opened):
            opened += 1 if brace.group() == "{{" else -1
            literal.append(template[start : position + 1])
            start = position + 2
        elif (match := _PLACEHOLDER.match(template, position)) and not match.group(1).partition(".")[0].isdigit():
            literal.append(template[start:position])
            parts += ["".join(literal), _placeholder(match)]
            literal = []
            start = match.end()
        elif _OPENS.match(template, position):
            allowed = "it must be {name}, {name.field} or {name|default}; {{ is a brace"
            return f"{_short(template[position:])} is no placeholder: {allowed}"
        else:  # a brace that is text, or a `}}` that ends no `{{`
            position += 1
            continue
        position = start
    literal.append(template[start:])
    parts.append("".join(literal))
    return tuple(part for part in parts if part != "")


def _placeholder(match: re.Match[str]) -> Placeholder:
    name, default = match.group(1), match.group(2)
    if default is None:
        return Placeholder(name, tuple(name.split(".")))
    try:
        given = orjson.loads(default)
    except orjson.JSONDecodeError:
        given = default
    return Placeholder(name, tuple(name.split(".")), given, True)


def _compiled(template: Any, where: str, found: list[Placeholder], depth: int) -> Callable[[Values, Budget], Any] | None:
    """None: nothing in it to replace."""
    if depth > MAX_DEPTH:
        raise TemplateError(where, "too_deep", f"nested deeper than {MAX_DEPTH}")
    if isinstance(template, str):
        return _compiled_text(template, where, found) if "{" in template else None
    if isinstance(template, dict):
        return _compiled_object(template, where, found, depth)
    if isinstance(template, list):
        return _compiled_list(template, where, found, depth)
    return None


def _compiled_text(template: str, where: str, found: list[Placeholder]) -> Callable[[Values, Budget], Any] | None:
    parts = _parts(template)
    if isinstance(parts, str):
        raise TemplateError(where, "bad_placeholder", parts)
    found += (part for part in parts if type(part) is Placeholder)
    if len(parts) == 1 and type(parts[0]) is Placeholder:
        only = parts[0]

        def give(values: Values, budget: Budget) -> Any:
            value = only.value(values, where)
            if budget.step is not None:
                budget.step.take_value(value, where)
            return value

        return give
    if all(type(part) is str for part in parts):
        plain = "".join(parts)  # type: ignore[arg-type]
        return None if plain == template else lambda _values, _budget: plain

    def fill(values: Values, budget: Budget) -> str:
        done = "".join([part if type(part) is str else text(part.value(values, where)) for part in parts])  # type: ignore[union-attr]
        budget.left -= len(done)
        if len(done) > MAX_TEXT or budget.left < 0:
            raise TemplateError(where, "too_long", f"becomes longer than {MAX_TEXT} characters, or all its texts than {MAX_RENDERED}")
        if budget.step is not None:
            budget.step.take(len(done), where)
        return done

    return fill


def _compiled_list(template: list[Any], where: str, found: list[Placeholder], depth: int) -> Callable[[Values, Budget], Any] | None:
    renders = [_compiled(inner, f"{where}[{index}]", found, depth + 1) for index, inner in enumerate(template)]
    if not any(renders):
        return None
    pairs = list(zip(template, renders, strict=True))
    return lambda values, budget: [inner if render is None else render(values, budget) for inner, render in pairs]


def _compiled_object(template: dict[str, Any], where: str, found: list[Placeholder], depth: int) -> Callable[[Values, Budget], Any] | None:
    at = f"{where}." if where else ""
    rows = [
        (key, _compiled(key, f"{at}{key}", found, depth + 1), inner, _compiled(inner, f"{at}{key}", found, depth + 1))
        for key, inner in template.items()
    ]
    if not any(name or value for _, name, _, value in rows):
        return None

    def fill(values: Values, budget: Budget) -> dict[str, Any]:
        done = {
            key if name is None else text(name(values, budget)): inner if value is None else value(values, budget)
            for key, name, inner, value in rows
        }
        if len(done) != len(rows):
            raise TemplateError(where, "same_key", "two of its keys become the same")
        return done

    return fill


# ---- looking up --------------------------------------------------------------------------------------------


def _step(value: Any, step: str) -> Any:
    """One step of a path into plain JSON. Raises KeyError or IndexError."""
    if isinstance(value, Mapping):
        return value[step]
    if isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 10:
        return value[int(step)]
    raise KeyError(step)


def follow(value: Any, path: Path) -> Any:
    """What a path finds in plain JSON. Raises KeyError or IndexError."""
    for step in path:
        value = _step(value, step)
    return value


def _unknown(placeholder: Placeholder, values: Values) -> str:
    root = placeholder.path[0]
    if root not in values:
        return _nothing_provides(placeholder, values)
    for length in range(1, len(placeholder.path)):
        try:
            found = follow(values[root], placeholder.path[1 : length + 1])
        except (KeyError, IndexError):
            found, step = follow(values[root], placeholder.path[1:length]), placeholder.path[length]
            kind = f"a list of {len(found)}" if isinstance(found, list) else "an object" if isinstance(found, Mapping) else "a plain value"
            near = near_names(step, found) if isinstance(found, Mapping) else ""
            return f"{{{placeholder.name}}}: {'.'.join(placeholder.path[:length])} is {kind} without {step!r}{near}"
    return f"{{{placeholder.name}}} is unknown"


def _nothing_provides(placeholder: Placeholder, known: Collection[str]) -> str:
    return f"nothing provides the variable {placeholder.path[0]!r} of {{{placeholder.name}}}{near_names(placeholder.path[0], known)}"


def near_names(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    names = list(known)[:1000] if name else []
    near = difflib.get_close_matches(name[:64], [one for one in names if isinstance(one, str)], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _short(template: str) -> str:
    line = template.split("\n", 1)[0]
    return repr(line if len(line) <= SHOWN else line[: SHOWN - 1] + "…")
