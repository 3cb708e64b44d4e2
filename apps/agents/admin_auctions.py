"""Auctions and their bids for operators: to be looked at, never typed over. Works the same with the task store on MongoDB."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.agents.market.records import Auction, Bid
from apps.core import admin_cells as cells
from apps.core.admin import ReadOnlyAdmin
from apps.core.admin_filters import words
from apps.orgs.admin_filters import OrgFilter

BIDS_SHOWN = 100
AUCTION_OUTCOMES = ("awarded", "no_bids", "too_few_bids", "nobody_free", "service_failed")
BID_OUTCOMES = ("accepted", "refused", "ignored")


@admin.register(Auction)
class AuctionAdmin(ReadOnlyAdmin):
    list_display = ("task_key", "attempt", "outcome", "winner", "price", "pays", "called", "bids", "took_ms", "at")
    list_filter = (words("outcome", AUCTION_OUTCOMES, field="outcome"), OrgFilter)
    nothing_yet = "No auction yet. An org holds them when its agent_resolution_strategy is `auction` (docs/auctions.md)."
    search_fields = ("^task_key", "=winner")
    search_help_text = "how a task's key (org/task) begins, or a winner"
    ordering = ("-id",)
    fieldsets = (
        (
            None,
            {"fields": (("task_key", "attempt"), "outcome", "because", ("winner", "price", "pays"), ("rule", "source"), ("at", "took_ms"))},
        ),
        ("Bids", {"fields": (("called", "bids", "ignored"), "in_order")}),
        ("Terms and what else happened", {"fields": ("terms", "details", "config_version")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Auction]:
        rows = super().get_queryset(request)
        listing = request.resolver_match is not None and request.resolver_match.url_name == "agents_auction_changelist"
        return rows.defer("terms", "ranking", "details") if listing else rows

    @admin.display(description="in order")
    def in_order(self, auction: Auction) -> str:
        bids = Bid.objects.filter(auction_id=auction.pk).order_by("id")[:BIDS_SHOWN]
        rows = (
            (bid.place or "", bid.agent, *(_number(value) for value in (bid.price, bid.eta_s, bid.confidence, bid.load, bid.score)),
             bid.why or bid.outcome)
            for bid in bids
        )  # fmt: skip
        return cells.table(("place", "agent", "price", "eta s", "confidence", "load", "score", "why"), rows, none="nobody bid")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


@admin.register(Bid)
class BidAdmin(ReadOnlyAdmin):
    list_display = ("task_key", "agent", "outcome", "place", "price", "eta_s", "confidence", "score", "why", "after_ms", "at")
    list_filter = (words("outcome", BID_OUTCOMES, field="outcome"), OrgFilter)
    nothing_yet = "No bid yet. Agents with a bidder make them when an auction calls (docs/auctions.md)."
    search_fields = ("^task_key", "=agent", "=auction_id")
    ordering = ("-id",)
