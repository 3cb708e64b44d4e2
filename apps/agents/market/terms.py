"""The terms of one auction: what the auction-input script answered, completed with defaults.

Prices are what the agent asks for doing the task, in the org's own unit: the lowest wins. `docs/auctions.md` explains each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST_PRICE, SECOND_PRICE, WEIGHTED = "first_price", "second_price", "weighted"
DEFAULT_WINDOW_MS = 200
DEFAULT_WEIGHTS: Mapping[str, float] = {"price": 1.0, "eta": 0.1, "confidence": 5.0, "load": 1.0, "reputation": 5.0, "calibration": 2.0}
"""Of rule `weighted`: what one unit of each costs, in units of price (see `ranking.py`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    rule: str = FIRST_PRICE
    bid_window_ms: int = DEFAULT_WINDOW_MS
    reserve_price: float | None = None
    """The most that will be paid; bids above it are refused."""
    min_bids: int = 1
    """With fewer acceptable bids nobody is chosen."""
    weights: Mapping[str, float] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    """Only candidates with all of these are called."""
    max_candidates: int | None = None
    """Call at most so many, the least loaded; None: all."""
    max_eta_s: float | None = None
    min_confidence: float = 0.0
    min_reputation: float = 0.0
    brief: Mapping[str, Any] = field(default_factory=dict)
    """What bidders are told beyond goal and intent."""

    @classmethod
    def of(cls, answer: Mapping[str, Any] | None) -> Terms:
        """From a parsed answer (`apps/dsl/answers.py`); None: no script is configured. Unknown keys are not ours."""
        given = {name: answer[name] for name in cls.__slots__ if name in answer and answer[name] is not None} if answer else {}
        if "capabilities" in given:
            given["capabilities"] = tuple(given["capabilities"])
        terms = cls(**given)
        if terms.rule == WEIGHTED and not terms.weights:
            given["weights"] = dict(DEFAULT_WEIGHTS)
            terms = cls(**given)
        return terms

    def json(self) -> dict[str, Any]:
        """For the record."""
        return {
            "rule": self.rule,
            "bid_window_ms": self.bid_window_ms,
            "reserve_price": self.reserve_price,
            "min_bids": self.min_bids,
            "weights": dict(self.weights),
            "capabilities": list(self.capabilities),
            "max_candidates": self.max_candidates,
            "max_eta_s": self.max_eta_s,
            "min_confidence": self.min_confidence,
            "min_reputation": self.min_reputation,
        }
