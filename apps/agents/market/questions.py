"""What a choice may have to ask of the outside, as values: a call for bids, or a request to an auction service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.agents.market.bids import BidBook


@dataclass(frozen=True, kw_only=True, slots=True)
class CallForBids:
    org_id: str
    call: Mapping[str, Any]
    """What every bidder is told; plain JSON."""
    book: BidBook
    """Where the answers are written."""
    window_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceRequest:
    org_id: str
    url: str
    body: Mapping[str, Any]
    timeout_ms: int
    allow: tuple[str, ...] = ()
    """The org's `outbound_allow`."""


Question = CallForBids | ServiceRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    took_ms: float = 0.0
    body: Any = None
    """Of a service: its decoded JSON."""
    problem: str = ""
    """Why there is no answer, in one sentence."""
    asked: bool = True
    """False: nobody was asked, on purpose (a simulation)."""
