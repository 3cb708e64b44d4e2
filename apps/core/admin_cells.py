"""How values look on the pages of the admin: states, lengths of time, JSON, and ids that lead to what they name."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.text import Truncator

JSON_SHOWN = 20_000
TEXT_SHOWN = 80
LONG = 24
"""Characters beyond which a word may be broken."""
STATES = frozenset({"status", "state", "outcome", "old", "new"})
"""Names of columns whose words are shown as states."""

Address = Callable[[Any], str]
"""A row → its id as a link."""
_leads: dict[str, tuple[str, Address]] = {}


def status(value: Any, words: str = "") -> str:
    """A word with the colour of what it means (core/admin.css knows which)."""
    return format_html("<span class='jp-status jp-{}'>{}</span>", value, (words or str(value)).replace("_", " ")) if value else "-"


def span(seconds: float) -> str:
    """A length of time, as people say it."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "0 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    for size, unit in ((86400, "d"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min"


def when(at: datetime | str | None) -> str:
    """An instant, as Django writes those of columns (jobplatform/formats). UTC."""
    if not at:
        return "-"
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.astimezone(UTC).strftime("%Y-%m-%d\N{NO-BREAK SPACE}%H:%M:%S")


def between(start: datetime | None, end: datetime | None) -> str:
    return span(max(0.0, (end - start).total_seconds())) if start and end else ""


def pretty(value: Any) -> str:
    """JSON to read; what is too long for a page is cut, and says so."""
    if value in (None, {}, [], ""):
        return "-"
    text = json.dumps(value, indent=2, ensure_ascii=False)
    shown = text if len(text) <= JSON_SHOWN else f"{text[:JSON_SHOWN]}\n… cut: the API has it all"
    return format_html("<pre class='jp-json' tabindex='0'>{}</pre>", shown)


def clipped(text: Any, most: int = TEXT_SHOWN) -> str:
    """The whole of it is told by the pointer."""
    short = Truncator(str(text)).chars(most)
    if short != str(text):
        return format_html("<span class='jp-long' title='{}'>{}</span>", Truncator(str(text)).chars(1000), short)
    return format_html("<span class='jp-long'>{}</span>", short) if len(short) > LONG else short


def bar(percent: float | None, state: str) -> str:
    if percent is None:
        return ""
    return format_html(
        "<span class='jp-items'><progress class='jp-{}' max='100' value='{}' aria-hidden='true'></progress> {}%</span>",
        state, round(percent), round(percent),
    )  # fmt: skip


def table(titles: tuple[str, ...], rows: Any, *, none: str = "-") -> str:
    """Cells may be markup of ours; all else is escaped."""
    told = [tuple(row) for row in rows]
    if not told:
        return none
    body = format_html("".join("<tr>" + "<td>{}</td>" * len(row) + "</tr>" for row in told), *(cell for row in told for cell in row))
    head = format_html("<th scope='col'>{}</th>" * len(titles), *titles)
    return format_html("<div class='jp-wide'><table class='jp-tree'><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>", head, body)


# ---- ids that lead somewhere ------------------------------------------------------------------------------


def link(page: str, pk: Any, text: Any = "") -> str:
    """To a row's page in the admin; `page` as `tasks_task`."""
    if not pk:
        return "-"
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}_change", args=[quote(str(pk))]), clipped(text or pk, 60))


def search(page: str, text: Any, **filters: Any) -> str:
    """To a list in the admin, filtered."""
    return format_html('<a href="{}?{}">{}</a>', reverse(f"admin:{page}_changelist"), urlencode(filters), clipped(text, 60))


def leads(name: str, address: Address, *, title: str) -> None:
    """Columns and fields of that name, of whatever rows, are shown by `address(row)` (said by the room that owns the thing)."""
    _leads[name] = (title, address)


def shown(model: type[models.Model], name: Any, *, in_list: bool) -> Any:
    """A column or field of a page: its name, or a function that shows it better than Django does."""
    if not isinstance(name, str):
        return name
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return name
    if not isinstance(field, models.Field):
        return name  # the other end of a relation
    title: Any = field.verbose_name
    if name in _leads:
        title, view = _leads[name]
    elif isinstance(field, models.JSONField):
        view = _short_json(name) if in_list else (lambda row: pretty(getattr(row, name)))
    elif name in STATES:
        words = dict(field.flatchoices)
        view = lambda row: status(getattr(row, name), words.get(getattr(row, name), ""))  # noqa: E731
    else:
        return name

    @admin.display(description=title, ordering=name)
    def cell(row: Any) -> str:
        return view(row)

    cell.__name__ = name
    return cell


def _short_json(name: str) -> Address:
    def view(row: Any) -> str:
        value = getattr(row, name)
        return "-" if value in (None, {}, [], "") else clipped(json.dumps(value, ensure_ascii=False))

    return view
