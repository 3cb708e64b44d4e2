"""The auctions of a task over HTTP: the terms, every bid with its score parts, and who won."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema

from apps.agents.market.records import Auction, Bid
from apps.core import clock
from apps.core.errors import Problem
from apps.core.http import answer
from apps.core.openapi import answered, nullable, object_of, string
from apps.core.pages import page_of
from apps.tasks.api import docs
from apps.tasks.api.tasks import TaskView
from apps.tasks.listing import BadCursor, BadQuery, _whole
from apps.tasks.models import Assignment

LIMIT_DEFAULT, LIMIT_MAX = 10, 50
BIDS_SHOWN = 200
CURSOR = re.compile(r"[0-9a-f]{32}")

AUCTION = object_of(
    {
        "id": string(),
        "attempt": docs.INTEGER,
        "outcome": string(enum=["awarded", "no_bids", "too_few_bids", "nobody_free", "service_failed"]),
        "because": string(),
        "source": string("our own call for bids, or the org's auction service", enum=["bids", "service"]),
        "rule": string(enum=["first_price", "second_price", "weighted"]),
        "winner": nullable(string()),
        "price": nullable({"type": "number"}),
        "pays": nullable({"type": "number"}),
        "called": docs.INTEGER,
        "acceptable": docs.INTEGER,
        "ignored": docs.INTEGER,
        "took_ms": {"type": "number"},
        "terms": object_of(),
        "details": object_of(description="who was silent, absent, passed over, and why"),
        "awards": {"type": "array", "items": object_of(description="each assignment made from its ranking, runners-up included")},
        "bids": {"type": "array", "items": object_of(description="in order: the ranking, then what was refused or ignored, and why")},
        "bids_total": docs.INTEGER,
        "config_version": docs.INTEGER,
        "at": docs.TIME,
    }
)
DOC: dict[str, Any] = {
    "tags": docs.TAGS,
    "operation_id": "list_auctions",
    "summary": "The auctions held for a task, newest first",
    "description": f"Up to {BIDS_SHOWN} bids each. A score is a cost: the lowest wins.",
    "parameters": [
        OpenApiParameter("limit", OpenApiTypes.INT, description=f"1…{LIMIT_MAX}, default {LIMIT_DEFAULT}"),
        OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before"),
    ],
    "responses": {
        (200, "application/json"): answered(
            object_of({"items": {"type": "array", "items": AUCTION}, "next_cursor": nullable(string())}), "a page"
        ),
        **docs.refused(400, 404),
    },
}


class Auctions(TaskView):
    @extend_schema(**DOC)
    def get(self, request: Any, task_id: str) -> HttpResponse:
        limit, after = _query(request.query_params)
        task = self.task(task_id)
        rows = Auction.objects.filter(task_key=task.key, **({"id__lt": after} if after else {})).order_by("-id")
        found, more = page_of(rows, limit, lambda row: row.id)
        awards = _awards(task.key) if found else {}
        return answer({"items": [_auction(row, awards.get(row.id, [])) for row in found], "next_cursor": more})


def _query(params: Any) -> tuple[int, str]:
    problems = [Problem(field=name[:80], code="unknown", message="is not a filter") for name in params.keys() - {"limit", "cursor"}]
    problems += [Problem(field=name, code="repeated", message="may be given once") for name in params if len(params.getlist(name)) > 1]
    limit = _whole(1, LIMIT_MAX)(params["limit"], "limit", problems) if "limit" in params else LIMIT_DEFAULT
    if problems:
        raise BadQuery(problems)
    after = params.get("cursor", "")
    if "cursor" in params and not CURSOR.fullmatch(after):
        raise BadCursor()
    return limit, after


def _awards(task_key: str) -> dict[str, list[dict[str, Any]]]:
    """By auction: whom its ranking gave the task, in the order of attempts."""
    awards: dict[str, list[dict[str, Any]]] = {}
    for row in Assignment.objects.filter(task_key=task_key, strategy="auction").order_by("attempt"):
        decision = row.decision if isinstance(row.decision, dict) else {}
        award = {"attempt": row.attempt, "agent": row.head_agent_subject_id, "place": decision.get("place"), "because": row.because}
        award["promise"] = decision.get("promise")
        awards.setdefault(decision.get("auction_id", ""), []).append(award)
    return awards


def _auction(row: Auction, awards: list[dict[str, Any]]) -> dict[str, Any]:
    bids = Bid.objects.filter(auction_id=row.id).order_by("id")
    shown = [_bid(bid) for bid in bids[: BIDS_SHOWN + 1]]
    return {
        "id": row.id,
        "attempt": row.attempt,
        "outcome": row.outcome,
        "because": row.because,
        "source": row.source,
        "rule": row.rule,
        "winner": row.winner or None,
        "price": row.price,
        "pays": row.pays,
        "called": row.called,
        "acceptable": row.bids,
        "ignored": row.ignored,
        "took_ms": row.took_ms,
        "terms": row.terms,
        "details": row.details,
        "awards": awards,
        "bids": shown[:BIDS_SHOWN],
        "bids_total": len(shown) if len(shown) <= BIDS_SHOWN else bids.count(),
        "config_version": row.config_version,
        "at": clock.iso(row.at),
    }


def _bid(bid: Bid) -> dict[str, Any]:
    return {
        "agent": bid.agent,
        "outcome": bid.outcome,
        "why": bid.why,
        "place": bid.place,
        "price": bid.price,
        "eta_s": bid.eta_s,
        "confidence": bid.confidence,
        "load": bid.load,
        "score": bid.score,
        "parts": bid.parts,
        "said": bid.said,
        "after_ms": bid.after_ms,
    }
