"""Auctions and their bids for operators: to be looked at, never typed over. Works the same with the task store on MongoDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from apps.agents.market.records import Auction, Bid
from apps.core.admin import ReadOnlyAdmin
from apps.orgs.models import Org

CHOICES_MAX = 200
BIDS_SHOWN = 100


class OrgFilter(admin.SimpleListFilter):
    """Choices from a small table, not from a scan of all auctions."""

    title, parameter_name = "organization", "org"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, str]]:
        return ((org_id, org_id) for org_id in Org.objects.order_by("org_id").values_list("org_id", flat=True)[:CHOICES_MAX])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(org_id=self.value()) if self.value() else queryset


class WordFilter(admin.SimpleListFilter):
    """Choices from a fixed list."""

    words: tuple[str, ...]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word.replace("_", " ")) for word in self.words]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.parameter_name: self.value()}) if self.value() else queryset


class AuctionOutcome(WordFilter):
    title, parameter_name = "outcome", "outcome"
    words = ("awarded", "no_bids", "too_few_bids", "nobody_free", "service_failed")


class BidOutcome(WordFilter):
    title, parameter_name = "outcome", "outcome"
    words = ("accepted", "refused", "ignored")


def _json(value: Any) -> str:
    return format_html("<pre class='jp-json'>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False)) if value else "-"


@admin.register(Auction)
class AuctionAdmin(ReadOnlyAdmin):
    list_display = ("task_key", "attempt", "outcome", "winner", "price", "pays", "called", "bids", "took_ms", "at")
    list_filter = (AuctionOutcome, OrgFilter)
    search_fields = ("^task_key", "=winner")
    search_help_text = "how a task's key (org/task) begins, or a winner"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("task", "attempt"), "outcome", "because", ("winner", "price", "pays"), ("rule", "source"), ("at", "took_ms"))}),
        ("Bids", {"fields": (("called", "bids", "ignored"), "bid_table")}),
        ("Terms and what else happened", {"fields": ("pretty_terms", "pretty_details", "config_version")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Auction]:
        rows = super().get_queryset(request)
        listing = request.resolver_match is not None and request.resolver_match.url_name == "agents_auction_changelist"
        return rows.defer("terms", "ranking", "details") if listing else rows

    @admin.display(description="task")
    def task(self, auction: Auction) -> str:
        return format_html("<a href='{}'>{}</a>", reverse("admin:tasks_task_change", args=[quote(auction.task_key)]), auction.task_key)

    @admin.display(description="in order")
    def bid_table(self, auction: Auction) -> str:
        bids = list(Bid.objects.filter(auction_id=auction.pk).order_by("id")[:BIDS_SHOWN])
        if not bids:
            return "-"
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (bid.place or "", bid.agent, *(_number(value) for value in (bid.price, bid.eta_s, bid.confidence, bid.load, bid.score)),
                 bid.why or bid.outcome)
                for bid in bids
            ),
        )  # fmt: skip
        head = "<tr><th>place</th><th>agent</th><th>price</th><th>eta s</th><th>confidence</th><th>load</th><th>score</th><th>why</th></tr>"
        return format_html("<table>" + head + "{}</table>", rows)

    @admin.display(description="terms")
    def pretty_terms(self, auction: Auction) -> str:
        return _json(auction.terms)

    @admin.display(description="details")
    def pretty_details(self, auction: Auction) -> str:
        return _json(auction.details)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


@admin.register(Bid)
class BidAdmin(ReadOnlyAdmin):
    list_display = ("task_key", "agent", "outcome", "place", "price", "eta_s", "confidence", "score", "why", "after_ms", "at")
    list_filter = (BidOutcome, OrgFilter)
    search_fields = ("^task_key", "=agent", "=auction_id")
    ordering = ("-id",)
    exclude = ("parts",)
    readonly_fields = ("pretty_parts",)

    @admin.display(description="score parts")
    def pretty_parts(self, bid: Bid) -> str:
        return _json(bid.parts)
