"""A simulated market with known true costs, decided by the production code and judged by an exhaustive oracle.

Every task is auctioned by `apps.agents.strategies.auction` itself, on a pool of simulated agents; only the wire and the
store of evidence are played. Agents differ in price, speed and reliability; their bids are noisy; some are away, busy,
barred or unable; some lie: they promise to be faster, surer or cheaper than they are, or send what is no bid at all. The
oracle knows every true figure and looks at every agent. A run begins with a history, as an org has one.

JSON in, JSON out: `{"tasks": 1000, "agents": 40, "seed": 1}`.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

WEIGHTS = {"price": 1.0, "eta": 0.05, "confidence": 10.0}
HISTORY = 150
"""Ended attempts of each agent before the measurement."""
NEAR = 0.01
"""Chosen within this share of the best true cost counts as near."""
LIES = ("fast", "sure", "cheap", "nonsense")
SPREAD = 0.35
"""Of an agent's costs over tasks: what makes now this, now that agent the best."""
NOISE = 0.01
"""Of an honest promise of time."""
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@dataclass(kw_only=True)
class Trader:
    name: str
    price: float
    seconds: float
    reliability: float
    able: bool
    lie: str = ""
    evidence: list[SimpleNamespace] = field(default_factory=list)

    def offer(self, size: float, chance: random.Random) -> dict[str, float]:
        """Its true figures for one task."""
        spread = math.exp(chance.gauss(0, SPREAD))
        price = self.price * size * spread
        return {"price": price * (1.5 if self.lie == "cheap" else 1.0), "said": price, "eta_s": self.seconds * size}

    def bid(self, offer: dict[str, float], chance: random.Random) -> bytes:
        if self.lie == "nonsense":
            return chance.choice([b"", b"{}", b'{"price": -5}', b'{"price": NaN}', b'{"price": "0"}', b'{"price": 0, "task_id": "other"}'])
        eta = offer["eta_s"] * math.exp(chance.gauss(0, NOISE)) * (0.4 if self.lie == "fast" else 1.0)
        sure = 0.999 if self.lie == "sure" else min(1.0, self.reliability + chance.uniform(-0.01, 0.01))
        return json.dumps({"price": offer["said"], "eta_s": eta, "confidence": sure}).encode()

    def work(self, offer: dict[str, float], promise: dict[str, float], chance: random.Random, now: datetime) -> None:
        """What came of it, as evidence: newest first."""
        completed = chance.random() < self.reliability
        self.evidence.insert(
            0,
            SimpleNamespace(
                agent=self.name, outcome="completed" if completed else "failed", excused=False, ended_at=now,
                seconds=offer["eta_s"] * math.exp(chance.gauss(0, NOISE)), promised_price=promise["price"],
                promised_eta_s=promise["eta_s"], promised_confidence=promise["confidence"], price=offer["price"],
            ),
        )  # fmt: skip


def true_cost(trader: Trader, offer: dict[str, float]) -> float:
    return WEIGHTS["price"] * offer["price"] + WEIGHTS["eta"] * offer["eta_s"] + WEIGHTS["confidence"] * (1 - trader.reliability)


def population(agents: int, chance: random.Random) -> list[Trader]:
    traders = []
    for number in range(agents):
        shaky = chance.random() < 0.15
        traders.append(
            Trader(
                name=f"agent-{number:03}",
                price=chance.uniform(6, 14),
                seconds=chance.uniform(20, 60),
                reliability=chance.uniform(0.4, 0.8) if shaky else chance.uniform(0.97, 0.999),
                able=chance.random() > 0.1,
                lie=LIES[number % len(LIES)] if number % 5 == 0 else "",
            )
        )
    return traders


def run(*, tasks: int, agents: int, seed: int) -> dict[str, Any]:
    from apps.agents.candidates import Candidate, CandidatePool
    from apps.agents.facts import TaskFacts
    from apps.agents.market.questions import Answer
    from apps.agents.market.ranking import Standing, standing_of
    from apps.agents.presence import Presence
    from apps.agents.reputation import judge
    from apps.agents.strategies.auction import AuctionStrategy
    from apps.agents.strategies.base import Choice, Setting
    from apps.orgs.config_store import OrgConfig
    from apps.roles.directory import CandidateSubject

    chance = random.Random(seed)
    config = OrgConfig()
    strategy = AuctionStrategy(runner=_Terms())
    traders = {trader.name: trader for trader in population(agents, chance)}
    now = NOON
    standings: dict[str, Standing] = {}

    def learn(trader: Trader) -> None:
        del trader.evidence[400:]
        standings[trader.name] = standing_of(judge(trader.evidence, config, now=now))

    for trader in traders.values():
        for _ in range(HISTORY):
            offer = trader.offer(chance.uniform(0.5, 2), chance)
            said = trader.bid(offer, chance)
            promise = json.loads(said) if trader.lie != "nonsense" else {"price": None, "eta_s": None, "confidence": None}
            trader.work(offer, promise, chance, now)
        learn(trader)

    agreed = near = ineligible = without = 0
    regrets: list[float] = []
    for number in range(tasks):
        now += timedelta(seconds=1)
        size = chance.uniform(0.5, 2)
        offers = {name: trader.offer(size, chance) for name, trader in traders.items()}
        candidates = [
            Candidate(
                subject=CandidateSubject(subject_id=name, subject_type="agent", role_ids=("scouts",), capabilities=()),
                presence=Presence.AWAY if chance.random() < 0.1 else Presence.PRESENT,
                room=4,
                load=4 if chance.random() < 0.1 else chance.randrange(4),
                capabilities=frozenset({"read", "write"} if trader.able else {"read"}),
                bar="paused" if chance.random() < 0.05 else "",
            )
            for name, trader in traders.items()
        ]
        eligible = {
            c.subject_id
            for c in candidates
            if c.presence is Presence.PRESENT and not c.bar and c.load < c.room and {"write"} <= c.capabilities
        }
        pool = CandidatePool(candidates)
        facts = TaskFacts(key=f"sim/{number}", org_id="sim", task_id=str(number), job_space_id="", priority=0, capabilities=("write",))
        setting = Setting(config=config, now=now, standings=lambda names: standings)
        steps = strategy.choose_many([facts], pool, setting)
        try:
            [call] = next(steps)
            for name, trader in traders.items():  # all of them answer, also those that were not called
                call.book.hear(name, trader.bid(offers[name], chance), 1.0)
            steps.send([Answer(took_ms=1.0)])
        except StopIteration as end:
            outcome = end.value[facts.key]
        honest = {name for name in eligible if traders[name].lie != "nonsense"}
        if not isinstance(outcome, Choice):
            without += bool(honest)
            continue
        chosen = outcome.candidate.subject_id
        ineligible += chosen not in eligible
        best = min(honest, key=lambda name: true_cost(traders[name], offers[name]))
        lowest, paid = true_cost(traders[best], offers[best]), true_cost(traders[chosen], offers[chosen])
        agreed += chosen == best
        near += paid <= lowest * (1 + NEAR)
        regrets.append(paid / lowest - 1)
        traders[chosen].work(offers[chosen], outcome.details["promise"], chance, now)
        learn(traders[chosen])
    return {
        "tasks": tasks,
        "agents": agents,
        "liars": sum(bool(trader.lie) for trader in traders.values()),
        "agreement": round(agreed / tasks, 4),
        "near": round(near / tasks, 4),
        "mean_regret": round(sum(regrets) / max(1, len(regrets)), 5),
        "ineligible": ineligible,
        "without_choice": without,
    }


class _Terms:
    """The auction-input script of this market."""

    def decide_many(self, hook: Any, requests: Any, *, now: datetime) -> list[Any]:
        output = {"rule": "weighted", "weights": WEIGHTS}
        return [SimpleNamespace(request=request, output=output, error="", script_id="") for request in requests]


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    json.dump(run(**json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
