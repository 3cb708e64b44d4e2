"""From what happened at an auction to its rows."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

from apps.agents.candidates import SHOWN
from apps.agents.market.bids import BidBook, Ignored
from apps.agents.market.questions import Answer
from apps.agents.market.ranking import Award, Ranked, Ranking
from apps.agents.market.records import Auction, Bid
from apps.core import bulk

ACCEPTED, REFUSED, IGNORED = "accepted", "refused", "ignored"
BIDS_KEPT = 1000
"""Acceptable bids that get a row each, the best; more are counted only."""


def auction_row(
    case: Any, book: BidBook, ranking: Ranking, result: Award, outcome: Any, *, took_ms: float, setting: Any
) -> Auction:
    winner = result.winner
    if winner is not None:
        word = "awarded"
    elif result.passed_over:
        word = "nobody_free"
    else:
        word = "too_few_bids" if ranking.ranked else "no_bids"
    details = {
        "silent": _some(sorted(book.silent)),
        "absent": _some(sorted(book.absent)),
        "passed": _some(sorted(book.passed)),
        "not_called": {"count": len(case.not_called), "agents": dict(islice(case.not_called.items(), SHOWN))},
        "passed_over": dict(list(result.passed_over.items())[:SHOWN]),
        "place": result.place + 1 if winner else None,
        "loss": ranking.loss,
    }
    return bulk.new(
        Auction, id=case.id, org_id=case.facts.org_id, task_key=case.facts.key, attempt=case.facts.attempt + 1, outcome=word,
        because=outcome.because if winner else outcome.sentence, rule=case.terms.rule, winner=winner.bid.agent if winner else "",
        price=winner.bid.price if winner else None, pays=winner.pays if winner else None, called=len(book.called),
        bids=len(ranking.ranked), ignored=book.ignored_count + len(ranking.refused), took_ms=round(took_ms, 2), terms=case.terms.json(),
        ranking=[each.json() for each in ranking.ranked[:SHOWN]], details=details, config_version=setting.config.version, at=setting.now,
    )  # fmt: skip


def service_row(case: Any, outcome: Any, answer: Answer, *, setting: Any) -> Auction:
    agent = outcome.candidate.subject_id if hasattr(outcome, "candidate") else ""
    return bulk.new(
        Auction, id=case.id, org_id=case.facts.org_id, task_key=case.facts.key, attempt=case.facts.attempt + 1,
        outcome="awarded" if agent else "service_failed", because=outcome.because if agent else outcome.sentence, source="service",
        rule=case.terms.rule, winner=agent, called=len(case.candidates), took_ms=round(answer.took_ms, 2), terms=case.terms.json(),
        config_version=setting.config.version, at=setting.now,
    )  # fmt: skip


def bid_rows(auction: Auction, book: BidBook, ranking: Ranking, result: Award) -> list[Bid]:
    passed_over = result.passed_over
    rows = [_ranked(auction, place, each, passed_over.get(each.bid.agent, "")) for place, each in enumerate(ranking.ranked[:BIDS_KEPT], 1)]
    for agent, why in ranking.refused.items():
        bid = book.bids[agent]
        rows.append(
            _row(auction, len(rows) + 1, agent, REFUSED, why, bid.after_ms, auction.at, price=bid.price, eta_s=bid.eta_s,
                 confidence=bid.confidence, load=bid.load)
        )  # fmt: skip
    for ignored in list(book.ignored):
        rows.append(ignored_row(auction, len(rows) + 1, ignored, at=auction.at))
    return rows


def ignored_row(auction: Auction, number: int | str, ignored: Ignored, *, at: datetime) -> Bid:
    why = f"{ignored.why}: {ignored.detail}" if ignored.detail else ignored.why
    return _row(auction, number, ignored.agent, IGNORED, why, ignored.after_ms, at, said=ignored.said)


def _ranked(auction: Auction, place: int, each: Ranked, why: str) -> Bid:
    """`why` it was passed over, if it was."""
    bid = each.bid
    return _row(
        auction, place, bid.agent, ACCEPTED, why, bid.after_ms, auction.at, place=place, price=bid.price, eta_s=bid.eta_s,
        confidence=bid.confidence, load=each.load, score=each.score, parts={name: round(value, 6) for name, value in each.parts.items()},
    )  # fmt: skip


def _row(
    auction: Auction, number: int | str, agent: str, outcome: str, why: str, after_ms: float, at: datetime, **values: Any
) -> Bid:
    digits = f"{number:06}" if isinstance(number, int) else number
    return bulk.new(
        Bid, id=f"{auction.id}:{digits}", auction_id=auction.id, org_id=auction.org_id, task_key=auction.task_key, agent=agent,
        outcome=outcome, why=why, after_ms=round(after_ms, 2), at=at, **values,
    )  # fmt: skip


def _some(agents: list[str]) -> dict[str, Any]:
    return {"count": len(agents), "agents": agents[:SHOWN]}
