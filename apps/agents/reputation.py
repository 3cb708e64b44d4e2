"""Reputation: what the evidence says of agents. Nothing an agent says of itself counts.

Each ended attempt is evidence: completed is a success; failed, lost and rejected are failures; declined is neither, and a
lost attempt is excused when the task crashed other agents too. An attempt's weight halves with every half-life that has
passed since it ended, so with a prior Beta(a, b) the agent's share of successes is Beta(a + Σ weights of successes,
b + Σ weights of failures): reputation is its mean, and the interval holds 90 % of it.

Figures are as of a moment; upkeep computes anew those of agents that have new evidence, and all now and then. Redis keeps
them, and losing them costs one query.

<p>:figures:<org>        HASH   agent -> JSON of its figures; expires a day after the last was written
<p>:figures:<org>:new    SET    agents with evidence that their figures do not hold yet; expires likewise
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db.models import Q

from apps.agents import posterior
from apps.agents.models import Evidence
from apps.core import clock, redis
from apps.orgs.config_store import OrgConfig, OrgConfigProvider

NEWEST = 1_000
"""Attempts of an agent that count, at most: with a half-life of a hundred attempts or fewer, older ones weigh nothing."""
ROWS_MAX = 50_000
"""Rows read at a time for all agents asked about together, newest first."""
LOOKS_MAX = 8
"""Times that rows are read for those of them whose evidence was crowded out by others'."""
HALF_LIVES = 10
"""Evidence older than this weighs less than a thousandth, and is not read."""
RECENT = 50
"""Attempts that "recent" figures look at."""
KEPT_SECONDS = 86_400
MASS = 0.9

SUCCESS = frozenset({Evidence.Outcome.COMPLETED.value})
FAILURE = frozenset({Evidence.Outcome.FAILED.value, Evidence.Outcome.LOST.value, Evidence.Outcome.REJECTED.value})
FIELDS = (
    "agent", "outcome", "excused", "ended_at", "seconds", "promised_price", "promised_eta_s", "promised_confidence", "price",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Shares are 0…1; None where there is nothing to go by. `asdict` is plain JSON."""

    reputation: float
    """Mean of the posterior: the chance that the next attempt succeeds."""
    low: float
    high: float
    """The 90 % credible interval."""
    weight: float = 0.0
    """How many attempts of today the evidence is worth."""
    completed: int = 0
    failed: int = 0
    lost: int = 0
    declined: int = 0
    rejected: int = 0
    """How the newest attempts ended; those `lost` that were the task's fault are in `excused` instead."""
    excused: int = 0
    success_rate: float | None = None
    """Of the latest 50 that succeeded or failed."""
    latency_p50_s: float | None = None
    """Seconds from assignment to completion, median of the latest 50."""
    promises: int = 0
    """Attempts that came with a promise (a bid)."""
    claimed: float | None = None
    """Mean of the promised confidence…"""
    kept: float | None = None
    """…and the share of successes behind the same promises."""
    brier: float | None = None
    """Mean of (promised confidence - 1 or 0)²: 0 is a prophet, 0.25 knows nothing, 1 is always wrong."""
    eta_ratio: float | None = None
    """Median of seconds taken / seconds promised: 2 takes twice as long as it says."""
    price_ratio: float | None = None
    """Median of price charged / price promised: above 1 it overcharges."""
    as_of_ms: int = 0

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high


def figures(org_id: str, subject_ids: Sequence[str], *, now: datetime) -> dict[str, Figures]:
    """The figures of each, also of those of whom nothing is known. One read of Redis; one query for those not found there."""
    if not subject_ids:
        return {}
    config = OrgConfigProvider().of(org_id)
    found = _kept(org_id, subject_ids, config, now)
    if missing := [name for name in subject_ids if name not in found]:
        found |= refresh(org_id, missing, now=now, config=config)
    return found


def refresh(org_id: str, subject_ids: Sequence[str], *, now: datetime, config: OrgConfig | None = None) -> dict[str, Figures]:
    """Compute these anew from the evidence, and keep them."""
    config = config or OrgConfigProvider().of(org_id)
    rows = _evidence(org_id, subject_ids, config, now)
    made = {name: judge(rows.get(name, ()), config, now=now) for name in subject_ids}
    _keep(org_id, made, config)
    return made


def judge(rows: Sequence[Evidence], config: OrgConfig, *, now: datetime) -> Figures:
    """Pure: an agent's evidence, newest first, to its figures."""
    good, bad = config.reputation_prior_successes, config.reputation_prior_failures
    counts = dict.fromkeys(("completed", "failed", "lost", "declined", "rejected", "excused"), 0)
    weight, decisive, taken, briers, etas, prices, promises = 0.0, [], [], [], [], [], 0
    claims: list[float] = []
    kept: list[bool] = []
    for row in rows:
        counts["excused" if row.excused else row.outcome] += 1
        success = row.outcome in SUCCESS
        if row.excused or not (success or row.outcome in FAILURE):
            continue
        age = max(0.0, (now - row.ended_at).total_seconds())
        w = 0.5 ** (age / config.reputation_half_life_s)
        weight, good, bad = weight + w, good + w * success, bad + w * (not success)
        decisive.append(success)
        if success:
            taken.append(row.seconds)
        promises += row.promised_confidence is not None or row.promised_eta_s is not None or row.promised_price is not None
        if row.promised_confidence is not None:
            briers.append((row.promised_confidence - success) ** 2)
            claims.append(row.promised_confidence)
            kept.append(success)
        if success and row.promised_eta_s:
            etas.append(row.seconds / row.promised_eta_s)
        if success and row.promised_price and row.price is not None:
            prices.append(row.price / row.promised_price)
    low, high = posterior.interval(good, bad, MASS)
    return Figures(
        reputation=good / (good + bad), low=low, high=high, weight=weight, **counts,
        success_rate=_mean(decisive[:RECENT]), latency_p50_s=_median(taken[:RECENT]), promises=promises,
        claimed=_mean(claims), kept=_mean(kept), brier=_mean(briers[:RECENT]), eta_ratio=_median(etas[:RECENT]),
        price_ratio=_median(prices[:RECENT]), as_of_ms=clock.to_ms(now),
    )  # fmt: skip


def note_new(org_id: str, agents: Iterable[str]) -> None:
    """There is evidence that the kept figures of these do not hold."""
    name = redis.key("figures", org_id, "new")
    with redis.client().pipeline(transaction=False) as pipeline:
        pipeline.sadd(name, *agents)
        pipeline.expire(name, KEPT_SECONDS)
        pipeline.execute()


def tend(org_id: str, *, now: datetime, limit: int = 200) -> int:
    """Bring kept figures up to date: agents with new evidence, then those whose figures have aged. Answers how many."""
    config = OrgConfigProvider().of(org_id)
    fresh = redis.client().spop(redis.key("figures", org_id, "new"), limit)
    kept = redis.client().hgetall(redis.key("figures", org_id))
    edge = clock.to_ms(now - timedelta(seconds=_life(config)))
    aged = [name for name, text in kept.items() if orjson.loads(text)["as_of_ms"] < edge]
    wanted = [*dict.fromkeys([*fresh, *aged])][:limit]
    if wanted:
        refresh(org_id, wanted, now=now, config=config)
    return len(wanted)


def _life(config: OrgConfig) -> float:
    """Seconds until weights have changed by about a hundredth."""
    return min(max(60.0, config.reputation_half_life_s / 70), 3600.0)


def _recipe(config: OrgConfig) -> list[float]:
    """What figures depend on besides the evidence: kept ones made after another recipe are worth nothing."""
    return [config.reputation_half_life_s, config.reputation_prior_successes, config.reputation_prior_failures]


def _kept(org_id: str, subject_ids: Sequence[str], config: OrgConfig, now: datetime) -> dict[str, Figures]:
    try:
        texts = redis.client().hmget(redis.key("figures", org_id), subject_ids)
    except redis.RedisDown as error:
        redis.log_away(error)
        return {}
    # Twice their life: upkeep renews them, and only when it is away we do.
    edge, ahead = clock.to_ms(now - timedelta(seconds=2 * _life(config))), clock.to_ms(now) + 60_000
    found, recipe = {}, _recipe(config)
    for name, text in zip(subject_ids, texts, strict=True):
        known: dict[str, Any] = orjson.loads(text) if text else {}
        if known.pop("recipe", None) == recipe and edge <= known["as_of_ms"] <= ahead:
            found[name] = Figures(**known)
    return found


def _keep(org_id: str, made: dict[str, Figures], config: OrgConfig) -> None:
    recipe = _recipe(config)
    texts = {name: orjson.dumps({**asdict(known), "recipe": recipe}).decode() for name, known in made.items()}
    try:
        with redis.client().pipeline(transaction=False) as pipeline:
            pipeline.hset(redis.key("figures", org_id), mapping=texts)
            pipeline.expire(redis.key("figures", org_id), KEPT_SECONDS)
            pipeline.execute()
    except redis.RedisDown as error:
        redis.log_away(error)


def _evidence(org_id: str, subject_ids: Sequence[str], config: OrgConfig, now: datetime) -> dict[str, list[Evidence]]:
    """Newest first, by agent."""
    since = now - timedelta(seconds=HALF_LIVES * config.reputation_half_life_s)
    by_agent: dict[str, list[Evidence]] = {}
    wanted, enough = set(subject_ids), min(NEWEST, max(RECENT, ROWS_MAX // len(subject_ids)))
    rest = Q()
    for _ in range(LOOKS_MAX):
        most = min(ROWS_MAX, NEWEST * len(wanted))
        asked = Evidence.objects.filter(rest, org_id=org_id, agent__in=wanted, ended_at__gte=since)
        rows = list(asked.order_by("-ended_at", "-pk").only(*FIELDS)[:most])
        for row in rows:
            mine = by_agent.setdefault(row.agent, [])
            if len(mine) < NEWEST:
                mine.append(row)
        # A few that are busy may have taken all the room: go on from here for the others.
        wanted = {name for name in wanted if len(by_agent.get(name, ())) < enough}
        if len(rows) < most or not wanted:
            break
        last = rows[-1]
        rest = Q(ended_at__lt=last.ended_at) | Q(ended_at=last.ended_at, pk__lt=last.pk)
    return by_agent


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
