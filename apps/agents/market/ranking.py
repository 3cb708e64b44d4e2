"""Who wins: from bids, terms and standings to a ranking with its reasons. Pure; the simulation drives this very code.

Every rule gives each bid a **score, which is a cost: the lowest wins**. It is quasi-linear: price plus what the rest is
worth in units of price, never relative to the other bids' extremes, so that a bid nobody would choose cannot turn the
order of two others (Y.-K. Che, "Design Competition through Multidimensional Auctions", RAND Journal 24(4), 1993).

    first_price, second_price    score = price·o + (1 − r)·L
    weighted                     score = w.price·price·o + w.eta·eta_s·e + w.confidence·(1 − chance) + w.load·load
                                         + w.reputation·(1 − r) + w.calibration·(1 − c)

r reputation, c calibration (0…1), e and o the habits of being late and of charging more (taken ÷ promised, never below 1),
all from evidence and never from the bidder. `chance_of` success: what a bidder says counts as far as its past claims have
come true, and never beyond what its record makes credible.
L is what a failure costs: the reserve price, else the median price of the established bidders (0 when there are none):
newcomers cannot move it, however many they are.

A first-price and a weighted winner is paid what it asked. A second-price winner is paid the highest price with which it
would still have won: the next score minus its own score's other part. With equal reputations that is the second price
(W. Vickrey, Journal of Finance 16(1), 1961).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from apps.agents.market.bids import Bid, Why
from apps.agents.market.terms import SECOND_PRICE, WEIGHTED, Terms
from apps.agents.reputation import Figures

PROBATION_TASKS = 5.0
"""An agent with less evidence than so many tasks is on probation."""
PROBATION_SHARE = 0.2
"""Of all that the candidates hold, agents on probation may hold so much together (at least one task), where others compete."""
SCORE_DIGITS = 9
SHRINK = 2.0
"""How many promises a newcomer's standing counts for."""
CLAIMS_COUNT = 2.0
"""What a candid bidder says of its chances counts so many times as much as its reputation: it knows the task."""
CANDOUR_SHRINK = 20.0
"""The same for the belief in what it says of its chances: a few successes prove no candour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What evidence says of an agent. The defaults are those of a newcomer."""

    reputation: float = 0.5
    """The chance that its next attempt succeeds."""
    evidence: float = 0.0
    """How many attempts of today its past is worth."""
    calibration: float = 0.5
    """How far its promises have held: 1 to the letter, 0 not at all."""
    eta_ratio: float = 1.0
    """Time taken for one promised."""
    price_ratio: float = 1.0
    """Price charged for one promised."""
    candour: float = 0.0
    """How far its claims to succeed can be believed: 1, its past ones have come true as often as it said; 0, nothing is known, or
    they have not."""
    ceiling: float = 1.0
    """The most that its record makes credible: the upper end of the interval."""
    success_rate: float | None = None
    latency_s: float | None = None

    @property
    def on_probation(self) -> bool:
        return self.evidence < PROBATION_TASKS


NEWCOMER = Standing()


def standing_of(figures: Figures) -> Standing:
    """From the figures of one agent. What few promises say is drawn towards a newcomer's, as `SHRINK` of its own would."""
    n = figures.promises
    held = [
        *([1.0 - figures.brier] if figures.brier is not None else []),
        *(min(ratio, 1 / ratio) for ratio in (figures.eta_ratio, figures.price_ratio) if ratio),
    ]
    said = sum(held) / len(held) if held else NEWCOMER.calibration
    return Standing(
        reputation=figures.reputation,
        evidence=figures.weight,
        calibration=(n * said + SHRINK * NEWCOMER.calibration) / (n + SHRINK),
        eta_ratio=_shrunk(figures.eta_ratio, n),
        price_ratio=_shrunk(figures.price_ratio, n),
        candour=_candour(figures),
        ceiling=figures.high,
        success_rate=figures.success_rate,
        latency_s=figures.latency_p50_s,
    )


def _candour(figures: Figures) -> float:
    """How likely so many broken promises would be of one who says what it knows, on the scale of the normal distribution: 1 for
    one who promised no more than came true. A newcomer's is drawn towards nothing, as `CANDOUR_SHRINK` promises would."""
    if figures.claimed is None or figures.kept is None:
        return 0.0
    n = figures.promises
    share = (n * figures.kept + 1) / (n + 2)
    over = max(0.0, figures.claimed - figures.kept) / math.sqrt(share * (1 - share) / n)
    return math.exp(-over * over / 2) * n / (n + CANDOUR_SHRINK)


def chance_of(confidence: float, standing: Standing) -> float:
    """That this bidder will succeed: its reputation and what it says of this task, which counts twice as much when its past
    claims have come true. Of one whose claims have not only the pessimism is believed. Never more than its record makes
    credible."""
    r, said = standing.reputation, CLAIMS_COUNT * standing.candour
    weight = said / (1 + said) if confidence > r else 1 - standing.candour / (1 + CLAIMS_COUNT)
    believed = r + (confidence - r) * weight
    return min(believed, max(r, standing.ceiling))


def _shrunk(ratio: float | None, n: int) -> float:
    """Towards 1, on the scale where twice and half are equally far."""
    return math.exp(n * math.log(max(ratio, 1e-6)) / (n + SHRINK)) if ratio else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    bid: Bid
    score: float
    parts: Mapping[str, float]
    """What the score is the sum of."""
    pays: float
    """What the agent is paid if it wins."""
    on_probation: bool
    load: float
    """The larger of what it says and what the platform sees."""

    def json(self) -> dict[str, Any]:
        bid = self.bid
        return {
            "agent": bid.agent, "price": bid.price, "eta_s": bid.eta_s, "confidence": bid.confidence, "load": round(self.load, 4),
            "score": self.score, "parts": {name: round(value, 6) for name, value in self.parts.items()}, "pays": self.pays,
            "on_probation": self.on_probation,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    ranked: tuple[Ranked, ...]
    refused: Mapping[str, str]
    """agent -> why its bid is not acceptable under the terms."""
    loss: float = 0.0
    """L: what a failure was taken to cost."""


def rank(bids: Sequence[Bid], terms: Terms, standings: Mapping[str, Standing], loads: Mapping[str, float], *, key: str) -> Ranking:
    """Best first. `loads`: how full the platform sees each bidder, 0…1. `key` (the task's) settles what is left of a tie.

    Ties: the less loaded, then the smaller SHA-256 of task and agent, so no name is favoured for what it is.
    """
    refused = {bid.agent: why for bid in bids if (why := _refusal(bid, terms, standings.get(bid.agent, NEWCOMER)))}
    acceptable = [bid for bid in bids if bid.agent not in refused]
    loss = _loss(acceptable, terms, standings)
    scored: list[tuple[float, float, bytes, Bid, dict[str, float]]] = []
    for bid in acceptable:
        load = max(bid.load, loads.get(bid.agent, 0.0))
        parts = _parts(bid, terms, standings.get(bid.agent, NEWCOMER), load, loss)
        scored.append((round(sum(parts.values()), SCORE_DIGITS), load, _lot(key, bid.agent), bid, parts))
    scored.sort(key=lambda each: each[:3])
    ranked = []
    for index, (score, load, _, bid, parts) in enumerate(scored):
        following = scored[index + 1][0] if index + 1 < len(scored) else None
        on_probation = standings.get(bid.agent, NEWCOMER).on_probation
        pays = _pays(bid, score, following, terms)
        ranked.append(Ranked(bid=bid, score=score, parts=parts, pays=pays, on_probation=on_probation, load=load))
    return Ranking(ranked=tuple(ranked), refused=refused, loss=loss)


def _refusal(bid: Bid, terms: Terms, standing: Standing) -> str:
    if terms.reserve_price is not None and bid.price > terms.reserve_price:
        return Why.OVER_RESERVE.value
    if terms.max_eta_s is not None and bid.eta_s * max(1.0, standing.eta_ratio) > terms.max_eta_s:
        return Why.TOO_SLOW.value
    if bid.confidence < terms.min_confidence:
        return Why.NOT_CONFIDENT.value
    if standing.reputation < terms.min_reputation:
        return Why.NOT_REPUTED.value
    return ""


def _loss(bids: Sequence[Bid], terms: Terms, standings: Mapping[str, Standing]) -> float:
    if terms.rule == WEIGHTED:
        return 0.0
    if terms.reserve_price is not None:
        return terms.reserve_price
    established = [bid.price for bid in bids if not standings.get(bid.agent, NEWCOMER).on_probation]
    return median(established) if established else 0.0


def _parts(bid: Bid, terms: Terms, standing: Standing, load: float, loss: float) -> dict[str, float]:
    overcharge = bid.price * max(0.0, standing.price_ratio - 1.0)
    if terms.rule != WEIGHTED:
        return {"price": bid.price, "overcharge": overcharge, "reputation": (1.0 - standing.reputation) * loss}
    costs = {
        "price": bid.price + overcharge,
        "eta": bid.eta_s * max(1.0, standing.eta_ratio),
        "confidence": 1.0 - chance_of(bid.confidence, standing),
        "load": load,
        "reputation": 1.0 - standing.reputation,
        "calibration": 1.0 - standing.calibration,
    }
    return {name: weight * costs[name] for name, weight in terms.weights.items() if name in costs}


def _pays(bid: Bid, score: float, following: float | None, terms: Terms) -> float:
    if terms.rule != SECOND_PRICE:
        return bid.price
    if following is None:  # nobody else: what the org was ready to pay, if it said so
        return bid.price if terms.reserve_price is None else terms.reserve_price
    most = following - (score - bid.price)
    return round(max(bid.price, most if terms.reserve_price is None else min(most, terms.reserve_price)), SCORE_DIGITS)


def _lot(key: str, agent: str) -> bytes:
    return hashlib.sha256(f"{key}\n{agent}".encode()).digest()


@dataclass(kw_only=True, slots=True)
class Quota:
    """What agents on probation hold of what all candidates hold; a batch's awards are counted as they are made."""

    held: int = 0
    on_probation: int = 0

    @property
    def left(self) -> bool:
        return self.on_probation + 1 <= max(1.0, PROBATION_SHARE * (self.held + 1))

    def give(self, winner: Ranked) -> None:
        self.held += 1
        self.on_probation += winner.on_probation


@dataclass(frozen=True, kw_only=True, slots=True)
class Award:
    place: int
    """0 is the best bid."""
    winner: Ranked | None
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Better bids that could not be taken, and why."""


def award(ranking: Ranking, terms: Terms, *, barred: Callable[[str], str], busy: Callable[[str], bool], quota: Quota) -> Award:
    """The first of the ranking that may have the task. `barred(agent)`: why it may not ("" when it may); `busy(agent)`: it
    holds a task already. With fewer than `min_bids` acceptable bids there is no winner."""
    if len(ranking.ranked) < max(1, terms.min_bids):
        return Award(place=0, winner=None)
    established = any(not each.on_probation for each in ranking.ranked)
    passed: dict[str, str] = {}
    for place, each in enumerate(ranking.ranked):
        agent = each.bid.agent
        why = barred(agent)
        if not why and each.on_probation and established:
            # Where nobody is established nobody could ever become it: the limits hold beside others only.
            if busy(agent):
                why = "on probation: one task at a time"
            elif not quota.left:
                why = "on probation: newcomers together hold their share of the tasks"
        if why:
            passed[agent] = why
            continue
        quota.give(each)
        return Award(place=place, winner=each, passed_over=passed)
    return Award(place=len(ranking.ranked), winner=None, passed_over=passed)
