"""Backtests, for operators: how far they are, what flips, and what becomes of the queue. Started over the API, or with jobctl."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.core import admin_cells as cells
from apps.core.admin import ReadOnlyAdmin
from apps.dsl.models import Backtest, BacktestFlip

SHOWN = 50


@admin.register(Backtest)
class BacktestAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "script", "org_id", "hook", "status", "progress", "flipped", "created_by")
    list_filter = ("status", "hook")
    search_fields = ("script_id", "org_id", "id", "created_by")
    ordering = ("-id",)
    nothing_yet = "No backtest yet. `jobctl policies backtest`, or POST /api/v1/policies/<script>/backtest, replays what was decided."
    fields = ("script", "org_id", "hook", "status", "progress", "error", "asked", "created_at", "created_by", "ended_at", "figures",
              "errors", "queue", "flips")  # fmt: skip

    class Media:
        css = {"all": ["dsl/policy.css"]}

    @admin.display(description="script", ordering="script_id")
    def script(self, test: Backtest) -> str:
        return f"{test.script_id}@{test.version}"

    @admin.display(description="decisions")
    def progress(self, test: Backtest) -> str:
        return f"{test.runs_seen:,} of {test.runs_total:,}"

    @admin.display(description="flip")
    def flipped(self, test: Backtest) -> str:
        return f"{test.result['flipped']:,}" if test.result else "-"

    @admin.display(description="window")
    def asked(self, test: Backtest) -> str:
        window = test.window
        words = [f"the newest {window['limit']:,}"]
        words += [f"since {cells.when(window['since'])}"] if window["since"] else []
        words += [f"until {cells.when(window['until'])}"] if window["until"] else []
        words += [f"of {len(window['task_ids'])} tasks"] if window["task_ids"] else []
        return ", ".join(words)

    @admin.display(description="result")
    def figures(self, test: Backtest) -> SafeString | str:
        if not test.result:
            return "not yet"
        found = test.result
        pairs = [("decisions", found["runs"]), ("stay", found["unchanged"]), *found["changes"].items()]
        pairs += [("stay, for another reason", found["reasons_changed"])] if found["reasons_changed"] else []
        boxes = format_html_join("", "<div><b>{}</b>{}</div>", ((f"{count:,}", name) for name, count in pairs))
        speed = f"{found['took_s']:g} s, {found['runs_per_s']:,} a second; a call takes {found['call_us']['p50'] / 1000:.2f} ms"
        speed += f" (99 of 100 at most {found['call_us']['p99'] / 1000:.2f} ms)"
        return format_html('<div class="policy-figures">{}</div>{}', boxes, speed)

    @admin.display(description="errors")
    def errors(self, test: Backtest) -> SafeString | str:
        found = (test.result or {}).get("errors")
        if not found:
            return "-"
        lines = format_html_join("", "<li>{} × {}</li>", ((f"{each['count']:,}", each["message"]) for each in found["messages"]))
        counts = (f"{found['recorded']:,}", f"{found['draft']:,}")
        return format_html('{} as recorded, {} now<ul class="policy-messages">{}</ul>', *counts, lines)

    @admin.display(description="order of the queue")
    def queue(self, test: Backtest) -> SafeString | str:
        found = (test.result or {}).get("queue")
        if not found:
            return "-"
        movers = (
            (
                cells.link("tasks_task", each["task_key"]),
                f"{each['from']} → {each['to']}",
                f"{each['old_priority']} → {each['new_priority']}",
            )
            for each in found["movers"]
        )
        counts = f"{found['moved']:,} stand elsewhere, {found['pairs_swapped']:,} pairs the other way round"
        table = cells.table(("task", "place", "priority"), movers, none="")
        return format_html("Kendall's tau {}; {}{}", found["kendall_tau"], counts, table)

    @admin.display(description="decisions that flip")
    def flips(self, test: Backtest) -> SafeString | str:
        found = list(BacktestFlip.objects.filter(backtest=test).order_by("place")[:SHOWN])
        if not found:
            return "none"
        rows = ((cells.link("dsl_policyrun", flip.run_id, flip.task_key), flip.change, _said(flip.old), _said(flip.new)) for flip in found)
        every = cells.search("dsl_backtestflip", "All that are listed", backtest__id__exact=test.pk)
        return format_html("{}{}", cells.table(("task", "change", "recorded", "now"), rows), every)


@admin.register(BacktestFlip)
class BacktestFlipAdmin(ReadOnlyAdmin):
    list_display = ("place", "task_key", "change", "recorded", "now")
    search_fields = ("task_key", "^change")
    search_help_text = "part of a task's key (org/task), or how a change begins: accept"
    nothing_yet = "What a backtest found that would be decided otherwise is told here."
    ordering = ("backtest", "place")
    fields = ("backtest", "place", "task_key", "run", "change", "old", "new")

    def get_queryset(self, request: HttpRequest) -> QuerySet[BacktestFlip]:
        return super().get_queryset(request).select_related("backtest")

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup == "backtest__id__exact" or super().lookup_allowed(lookup, value, request)

    @admin.display(description="recorded answer")
    def run(self, flip: BacktestFlip) -> str:
        return cells.link("dsl_policyrun", flip.run_id)

    @admin.display(description="recorded")
    def recorded(self, flip: BacktestFlip) -> str:
        return _said(flip.old)

    @admin.display(description="now")
    def now(self, flip: BacktestFlip) -> str:
        return _said(flip.new)


def _said(side: dict[str, Any]) -> str:
    """A decision and why, in a line."""
    why = side.get("error") or side.get("reason") or ""
    return f"{side.get('decision')}: {why}"[:200] if why else str(side.get("decision"))[:200]
