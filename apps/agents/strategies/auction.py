"""Auction: the script sets the terms, every candidate is called at once, and the ranking of `market/ranking.py` decides.

When a winner declines, the next of the same ranking gets the task without another call, while the bids are fresh. The
winner of one task has less room for the next of the batch: awards are made in the order of the queue.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.db import models

from apps.agents.candidates import DECLINED, SHOWN, Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.market import bids, paperwork, service
from apps.agents.market.questions import Answer, CallForBids, Question
from apps.agents.market.ranking import Award, Quota, Ranking, award, rank
from apps.agents.market.records import Auction
from apps.agents.market.terms import Terms
from apps.agents.strategies.base import Choice, NoHeadAgent, NotYet, Outcome, PoolFull, Setting, Steps, nobody, open_to
from apps.core import ids
from apps.dsl.facts import task_facts
from apps.dsl.policies import Hook
from apps.dsl.runner import PolicyRequest, PolicyRunner

CALLS_MAX = 5000
"""Calls of one batch and lane (a task makes one to each candidate): what the wire and the agents answer within a window.
Tasks beyond it keep their place for the next batch."""
RUNNER_UP_SECONDS = 300
"""How long a ranking is good for; after that its bids are too old, and a new auction is held."""


@dataclass(kw_only=True, slots=True)
class _Case:
    facts: TaskFacts
    task: dict[str, Any]
    """What scripts and bidders see of it."""
    terms: Terms
    output: Mapping[str, Any]
    """Of the script, as it answered."""
    candidates: list[Candidate]
    not_called: Mapping[str, str]
    """Who is eligible and was left out, and why."""
    rows: tuple[models.Model, ...]
    id: str


class AuctionStrategy:
    name = "auction"

    def __init__(self, runner: PolicyRunner | None = None) -> None:
        self._runner = runner

    def choose_many(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting) -> Steps:
        outcomes: dict[str, Outcome] = self._runners_up(asked, pool, setting)
        cases = self._open([facts for facts in asked if facts.key not in outcomes], pool, setting, outcomes)
        if not cases:
            return outcomes
        url = setting.config.auction_service_url
        questions: list[Question] = [service.request(case, setting.config) if url else _call(case, setting) for case in cases]
        answers: list[Answer] = yield questions
        quota = _quota(pool, setting) if not url else Quota()
        for case, question, answer in zip(cases, questions, answers, strict=True):
            if isinstance(question, CallForBids):
                outcomes[case.facts.key] = self._decide(case, question, answer, pool, setting, quota)
            else:
                outcomes[case.facts.key] = self._served(case, answer, pool, setting)
        return outcomes

    # Opening

    def _open(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting, outcomes: dict[str, Outcome]) -> list[_Case]:
        cases: list[_Case] = []
        calls, start = 0, 0
        while start < len(asked):
            room = (CALLS_MAX - calls) // max(1, len(pool.eligible))
            if cases and not room:
                outcomes.update({facts.key: NotYet(strategy=self.name) for facts in asked[start:]})
                break
            some = asked[start : start + max(1, room)]
            start += len(some)
            opened = self._open_some(some, pool, setting, outcomes)
            calls += sum(len(case.candidates) for case in opened)
            cases += opened
        return cases

    def _open_some(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting, outcomes: dict[str, Outcome]) -> list[_Case]:
        cases: list[_Case] = []
        anybody = []
        for facts in asked:
            if open_to(facts, pool):
                anybody.append(facts)
            else:
                outcomes[facts.key] = nobody(facts, pool, strategy=self.name)
        for facts, (task, output, problem, rows) in zip(anybody, self._terms(anybody, setting), strict=True):
            terms = Terms.of(output)
            able = [] if problem else _able(facts, pool, terms)
            if able:
                cases.append(
                    _Case(
                        facts=facts, task=task, terms=terms, output=output or {}, candidates=able, rows=rows, id=ids.time_ordered(),
                        not_called=_not_called(facts, pool, terms, able),
                    )  # fmt: skip
                )
                continue
            refused = NoHeadAgent(problem, strategy=self.name) if problem else _unable(facts, pool, terms, self.name)
            refused.rows = rows
            refused.final = bool(problem) and setting.config.auction_input_on_error == "fail"
            outcomes[facts.key] = refused
        return cases

    def _terms(self, asked: Sequence[TaskFacts], setting: Setting) -> list[tuple[dict[str, Any], Any, str, tuple[models.Model, ...]]]:
        """(what scripts see, the script's output or None, problem, rows) for each."""
        if not asked:
            return []
        config = setting.config
        requests = [
            PolicyRequest(
                org_id=facts.org_id,
                task_key=facts.key,
                script_id=facts.behavior.get("auction_input_dsl_id") or config.auction_input_dsl_id,
                input={"task": task_facts(dict(facts.entry), org_id=facts.org_id)},
                timeout_ms=config.dsl_timeout_ms,
                config_version=config.version,
                config=config,
            )
            for facts in asked
        ]
        decisions = (self._runner or PolicyRunner()).decide_many(Hook.AUCTION_INPUT, requests, now=setting.now)
        return [
            (
                request.input["task"],
                decision.output,
                f"The script {decision.script_id} set no terms: {decision.error}" if decision.error else "",
                (decision.row(),) if decision.script_id else (),
            )
            for request, decision in zip(requests, decisions, strict=True)
        ]

    # Deciding

    def _decide(
        self, case: _Case, call: CallForBids, answer: Answer, pool: CandidatePool, setting: Setting, quota: Quota
    ) -> Outcome:
        facts, book = case.facts, call.book
        if answer.problem:
            return NotYet(strategy=self.name, problem=answer.problem)
        members = {candidate.subject_id: candidate for candidate in case.candidates}
        known = setting.standings(list(book.bids))
        loads = {agent: members[agent].fullness for agent in book.bids}
        ranking = rank(list(book.bids.values()), case.terms, known, loads, key=facts.key)
        result = award(
            ranking,
            case.terms,
            barred=lambda agent: "" if members[agent].free else "no room left: it won others of this batch",
            busy=lambda agent: members[agent].load > 0,
            quota=quota,
        )
        outcome = self._outcome(case, book, ranking, result, pool)
        auction = paperwork.auction_row(case, book, ranking, result, outcome, took_ms=answer.took_ms, setting=setting)
        setting.records += [auction, *paperwork.bid_rows(auction, book, ranking, result)]
        if isinstance(outcome, Choice):
            return replace(outcome, details={**outcome.details, **_promise(auction.id, result.winner.json()), "took_ms": auction.took_ms})
        outcome.rows = case.rows
        return outcome

    def _outcome(self, case: _Case, book: bids.BidBook, ranking: Ranking, result: Award, pool: CandidatePool) -> Outcome:
        winner, terms = result.winner, case.terms
        if winner is None:
            if result.passed_over:
                return PoolFull("Every bidder has its hands full", strategy=self.name)
            if not ranking.ranked:
                why = f"No acceptable bid came from {len(book.called)} called"
                if ranking.refused:
                    why += f"; {_refusals(ranking)}"
                return NoHeadAgent(why, strategy=self.name)
            came = f"{_many(len(ranking.ranked), 'acceptable bid')} came from {len(book.called)} called"
            why = f"{came}, and at least {terms.min_bids} are wanted"
            return NoHeadAgent(f"{why}; {_refusals(ranking)}" if ranking.refused else why, strategy=self.name)
        candidate = pool.members[winner.bid.agent]
        pool.take(candidate)
        place = "best" if not result.place else f"best of those with room (place {result.place + 1})"
        of = _many(len(ranking.ranked), "bid")
        because = f"{candidate.subject_id} made the {place} of {of} ({terms.rule}): price {winner.bid.price:g}"
        if winner.pays != winner.bid.price:
            because += f", pays {winner.pays:g}"
        details = {
            "auction_id": case.id,
            "terms": terms.json(),
            "loss": ranking.loss,
            "bids": [each.json() for each in ranking.ranked[:SHOWN]],
            "bids_count": len(ranking.ranked),
            "refused_count": len(ranking.refused),
            "place": result.place + 1,
            "passed_over": dict(list(result.passed_over.items())[:SHOWN]),
            "tie_break": _tie(ranking, result.place),
        }
        return Choice(candidate=candidate, strategy=self.name, because=because, details=details, rows=case.rows)

    def _served(self, case: _Case, answer: Answer, pool: CandidatePool, setting: Setting) -> Outcome:
        """An external service chose, or did not. What it says is checked against the candidates it was given."""
        if not answer.asked:
            return NotYet(strategy=self.name, problem=answer.problem)
        agent, problem = service.chosen(answer, {candidate.subject_id for candidate in case.candidates})
        if problem:
            outcome: Outcome = NoHeadAgent(f"The auction service chose nobody: {problem}", strategy=self.name)
        elif not pool.members[agent].free:
            outcome = PoolFull("The auction service's choice has no room left", strategy=self.name)
        else:
            because = f"{agent} was chosen by the org's auction service"
            outcome = Choice(candidate=pool.members[agent], strategy=self.name, because=because, rows=case.rows)
            outcome = replace(outcome, details={"auction_id": case.id, "terms": case.terms.json(), "source": "service"})
            pool.take(pool.members[agent])
        setting.records.append(paperwork.service_row(case, outcome, answer, setting=setting))
        if not isinstance(outcome, Choice):
            outcome.rows = case.rows
        return outcome

    # Runners-up

    def _runners_up(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting) -> dict[str, Outcome]:
        declined = [facts for facts in asked if facts.attempt and facts.excluded and list(facts.excluded.values())[-1] == DECLINED]
        if not declined:
            return {}
        since = setting.now - timedelta(seconds=RUNNER_UP_SECONDS)
        rows = Auction.objects.filter(task_key__in=[facts.key for facts in declined], outcome="awarded", at__gte=since).order_by("id")
        latest = {row.task_key: row for row in rows}
        quota = _quota(pool, setting) if latest else Quota()
        found = {facts.key: self._runner_up(facts, latest[facts.key], pool, quota) for facts in declined if facts.key in latest}
        return {key: choice for key, choice in found.items() if choice is not None}

    def _runner_up(self, facts: TaskFacts, auction: Auction, pool: CandidatePool, quota: Quota) -> Choice | None:
        eligible = {candidate.subject_id for candidate in open_to(facts, pool)} if auction.ranking else set()
        left = [
            (place, entry)
            for place, entry in enumerate(auction.ranking, 1)
            if entry["agent"] in eligible and entry["agent"] not in facts.excluded
        ]
        established = any(not entry["on_probation"] for _, entry in left)
        for place, entry in left:
            agent, candidate = entry["agent"], pool.members[entry["agent"]]
            # Who was passed over as a newcomer does not get by a refusal what it could not win.
            if not (entry["on_probation"] and established and (candidate.load or not quota.left)):
                quota.held, quota.on_probation = quota.held + 1, quota.on_probation + entry["on_probation"]
                pool.take(candidate)
                gone = [name for name, why in facts.excluded.items() if why == DECLINED]
                because = f"{agent} made bid {place} of {auction.bids}; {', '.join(gone[-3:])} declined"
                details = {"auction_id": auction.id, "place": place, "runner_up": True, **_promise(auction.id, entry)}
                return Choice(candidate=candidate, strategy=self.name, because=because, details=details)
        return None


def _call(case: _Case, setting: Setting) -> CallForBids:
    task, terms = case.task, case.terms
    call = {
        "type": "call_for_bids",
        "auction_id": case.id,
        "org_id": case.facts.org_id,
        "task_id": case.facts.task_id,
        "goal": task["goal"],
        "intent": task["intent"],
        "priority": case.facts.priority,
        "job_space_id": case.facts.job_space_id,
        "due": task["due"],
        "capabilities": sorted({*terms.capabilities, *case.facts.capabilities}),
        "rule": terms.rule,
        "reserve_price": terms.reserve_price,
        "bid_window_ms": terms.bid_window_ms,
        "brief": dict(terms.brief),
    }
    book = bids.BidBook(auction_id=case.id, task_id=case.facts.task_id, called=(c.subject_id for c in case.candidates))
    return CallForBids(org_id=case.facts.org_id, call=call, book=book, window_ms=terms.bid_window_ms)


def _able(facts: TaskFacts, pool: CandidatePool, terms: Terms) -> list[Candidate]:
    wanted = set(terms.capabilities)
    able = open_to(facts, pool, (lambda c: wanted <= c.capabilities) if wanted else None)
    if terms.max_candidates is not None and len(able) > terms.max_candidates:
        able = heapq.nsmallest(terms.max_candidates, able, key=lambda c: (c.fullness, c.load, c.subject_id))
    return able


def _not_called(facts: TaskFacts, pool: CandidatePool, terms: Terms, able: list[Candidate]) -> dict[str, str]:
    if len(able) == len(pool.eligible):
        return {}
    called, wanted = {candidate.subject_id for candidate in able}, set(terms.capabilities)
    out = dict(pool.kept_out(facts))
    for candidate in pool.eligible:
        name = candidate.subject_id
        if name in called or name in out:
            continue
        if missing := sorted(wanted - candidate.capabilities):
            out[name] = f"lacks {', '.join(missing)}, which the terms want"
        elif not candidate.free:
            out[name] = "has no room"
        else:
            out[name] = f"is not among the {terms.max_candidates} least loaded (max_candidates)"
    return out


def _unable(facts: TaskFacts, pool: CandidatePool, terms: Terms, name: str) -> NoHeadAgent | PoolFull:
    wanted = set(terms.capabilities)
    if any(wanted <= c.capabilities and not c.hindered(facts) for c in pool.members.values()):
        return PoolFull(strategy=name)
    return NoHeadAgent(f"No candidate has what the terms want: {', '.join(sorted(wanted))}", strategy=name)


def _quota(pool: CandidatePool, setting: Setting) -> Quota:
    loaded = [c for c in pool.eligible if c.load]
    known = setting.standings([c.subject_id for c in loaded])
    return Quota(held=sum(c.load for c in loaded), on_probation=sum(c.load for c in loaded if known[c.subject_id].on_probation))


def _refusals(ranking: Ranking) -> str:
    """"2 bids were refused: over the reserve price"; the commonest reason first."""
    reasons = Counter(ranking.refused.values()).most_common()
    which = reasons[0][0] if len(reasons) == 1 else ", ".join(f"{why} ({count})" for why, count in reasons)
    count = len(ranking.refused)
    return f"{_many(count, 'bid')} {'was' if count == 1 else 'were'} refused: {which}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _promise(auction_id: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the agent promised, beside which its evidence will be laid."""
    return {"promise": {"auction_id": auction_id, **{name: entry[name] for name in ("price", "pays", "eta_s", "confidence")}}}


def _tie(ranking: Ranking, place: int) -> str:
    winner = ranking.ranked[place]
    equals = [each for each in ranking.ranked if each.score == winner.score]
    if len(equals) < 2:
        return ""
    if sum(each.load == winner.load for each in equals) < 2:
        return f"{len(equals)} bids were equal: the least loaded of them"
    return f"{len(equals)} bids were equal: the least loaded, then by lot (SHA-256 of task and agent)"
