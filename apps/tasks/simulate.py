"""What would become of an entry: the whole pipeline without effect. Nothing is stored, queued, counted or sent.

The same code as for a real task decides each step: parser, policies, candidate pool, strategies. What differs:
- policies may be other scripts or other versions, drafts too, and configuration values may be others (`Options`);
- an auction is announced, not held: its terms and who would be called, unless `ask_bids` says to really ask;
- rate limits are not counted, and a turn of round robin is not taken.

A remote policy, a role service and, with `ask_bids`, agents are really asked: their answers are what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db.models import Model, Q

from apps.agents.candidates import AgentCandidatePoolResolver, CandidatePool
from apps.agents.market.floor import Floor, carried_out
from apps.agents.market.questions import Answer, CallForBids, Question
from apps.agents.market.records import Auction, Bid
from apps.agents.resolver import HeadAgentResolver
from apps.agents.strategies.auction import AuctionStrategy
from apps.agents.strategies.base import Choice, Outcome
from apps.agents.strategies.least_loaded import LeastLoadedStrategy
from apps.agents.strategies.plan_retrieve import PlanRetrieveStrategy
from apps.agents.strategies.round_robin import RoundRobinStrategy
from apps.agents.strategies.static import StaticStrategy
from apps.core import clock
from apps.core.auth import Principal
from apps.dsl.book import Script, ScriptBook, book
from apps.dsl.policies import POLICIES, Hook, instead
from apps.dsl.runner import PolicyDecision, PolicyRequest, PolicyRunner
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.tasks import batch, crowding, explain, explain_waiting, explain_words, intake
from apps.tasks.entries import ExecutionMode, TaskEntry
from apps.tasks.models import Task
from apps.tasks.states import TaskStatus

NOT_ASKED = "the bidders were not asked: this is a simulation"
BIDS_SHOWN = 100


@dataclass(frozen=True, kw_only=True)
class Options:
    scripts: Mapping[Hook, Script] = field(default_factory=dict)
    """Asked instead of whatever the entry or the org names."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Configuration values, checked, instead of the org's."""
    ask_bids: bool = False


def simulate(entry: TaskEntry, principal: Principal, options: Options, *, now: datetime) -> dict[str, Any]:
    """Plain JSON. Raises what a submission would raise before anything is asked: Invalid, UnknownOrg, OtherBody."""
    config = _config(principal.org_id, options)
    runner = _Runner(options)
    rehearsal = _Rehearsal(runner)
    case = rehearsal.case(entry, principal, now)
    if case is None:
        return _known_already(entry, config, options)
    rehearsal.decide(case, config, now)
    task = intake._task(case, principal, config, now)
    found: dict[str, Any] = {
        "task_id": entry.task_id,
        "outcome": "",
        "summary": "",
        "status": task.status,
        "reason": case.reason,
        "config_version": config.version,
        "overridden": {"config": dict(options.config), "scripts": {hook.value: _named(script) for hook, script in options.scripts.items()}},
        "priority": {"submitted": task.submitter_priority, "effective": task.priority},
        "queue": None,
        "candidates": None,
        "choice": None,
        "auction": None,
    }
    if task.status != TaskStatus.REJECTED:
        found |= _place(task, config)
        found |= _agent(task, config, runner, options, now)
    found["policies"] = [_policy(decision) for decision in runner.decisions]
    found["outcome"], found["summary"] = _told(task, found)
    return found


# ---- policies ---------------------------------------------------------------------------------------------


class _Book(ScriptBook):
    """This process's book, with other versions in the places of some."""

    def __init__(self, scripts: Iterable[Script]) -> None:
        super().__init__()
        self._instead = {script.script_id: script for script in scripts}

    def find_many(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Script | None]:
        pairs = list(wanted)
        found = book().find_many(pair for pair in pairs if pair[1] not in self._instead)
        return {**found, **{pair: self._instead[pair[1]] for pair in pairs if pair[1] in self._instead}}


class _Runner(PolicyRunner):
    """Remembers what was decided; rows are never written."""

    def __init__(self, options: Options) -> None:
        super().__init__(scripts=_Book(options.scripts.values()))
        self._options = options
        self.decisions: list[PolicyDecision] = []

    def decide_many(self, hook: Hook, requests: Sequence[PolicyRequest], *, now: datetime) -> list[PolicyDecision]:
        script = self._options.scripts.get(hook)
        if script is not None:
            requests = [replace(request, script_id=script.script_id) for request in requests]
        found = super().decide_many(hook, requests, now=now)
        self.decisions += [decision for decision in found if decision.script_id]
        return found


class _Rehearsal(intake.TaskIntake):
    """Intake up to where it would write."""

    def __init__(self, runner: PolicyRunner) -> None:
        super().__init__(runner=runner)

    def case(self, entry: TaskEntry, principal: Principal, now: datetime) -> Any:
        """None: the same entry was submitted before."""
        verdicts: dict[int, intake.Verdict] = {}
        cases = self._new_cases([entry], principal, verdicts, now)
        if 0 in verdicts:
            if verdicts[0].error is not None and not verdicts[0].repeated:
                raise verdicts[0].error
            return None
        return next(iter(cases.values()))

    def decide(self, case: Any, config: OrgConfig, now: datetime) -> None:
        self._approve({case.key: case}, config, now)
        self._prioritize({case.key: case}, config, now)


def _config(org_id: str, options: Options) -> OrgConfig:
    scripts = {POLICIES[hook].config_key: script.script_id for hook, script in options.scripts.items()}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.config.items()}
    return replace(OrgConfigProvider().of(org_id), **given, **scripts)


def _named(script: Script) -> dict[str, Any]:
    return {"script_id": script.script_id, "version": script.version}


def _policy(decision: PolicyDecision) -> dict[str, Any]:
    return {
        "hook": decision.hook.value,
        "script_id": decision.script_id,
        "script_version": decision.script_version,
        "script_sha256": decision.script_sha256,
        "input": decision.request.input,
        "output": decision.output,
        "error": decision.error,
        "instead": instead(decision.hook, config) if decision.error and (config := decision.request.config) else "",
        "duration_us": decision.duration_us,
        "config_version": decision.request.config_version,
    }


# ---- place and agent --------------------------------------------------------------------------------------


def _place(task: Task, config: OrgConfig) -> dict[str, Any]:
    """Behind everything of its priority: by the rows, as if nothing were aging or delayed."""
    queued = Task.objects.filter(org_id=task.org_id, status=TaskStatus.QUEUED)
    before = Q(priority__gte=task.priority)
    lane = queued.filter(job_space_id=task.job_space_id)
    held_by = explain_waiting.paused_by(config, task.job_space_id)
    if task.not_before:
        held_by.append(f"not before {clock.iso(task.not_before)}")
    return {
        "queue": {
            "position": lane.filter(before).count(),
            "ahead_in_org": queued.filter(before).count(),
            "lane_size": lane.count(),
            "held_by": held_by,
        }
    }


class _Closed(Floor):
    """Hears who would be asked, and asks nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Question] = []

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        self.questions += questions
        return [Answer(problem=NOT_ASKED, asked=False) for _ in questions]


class _Open(_Closed):
    """Asks, and lets what comes too late go by."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        self.questions += questions
        return Floor.ask(self, questions)


def _agent(task: Task, config: OrgConfig, runner: PolicyRunner, options: Options, now: datetime) -> dict[str, Any]:
    pool = AgentCandidatePoolResolver(task.org_id, config).pools([task.job_space_id], now=now)[task.job_space_id]
    shown = explain_waiting.pool_shown(pool, task)
    floor = _Open() if options.ask_bids else _Closed()
    records: list[Model] = []
    outcome = _resolve(task, config, pool, runner, floor, now, records)
    auction = _auction(floor.questions, records, asked=options.ask_bids)
    if isinstance(outcome, Choice):
        choice: dict[str, Any] = {
            "found": True, "winner": outcome.candidate.subject_id, "strategy": outcome.strategy, "because": outcome.because,
            "details": outcome.details,
        }  # fmt: skip
    else:
        waits = pool.unknown or not isinstance(outcome, Exception) or getattr(outcome, "code", "") in ("pool_full", "not_yet")
        choice = {
            "found": False, "winner": None, "waits": bool(waits),
            "because": crowd.why if waits and (crowd := crowding.crowded(task, pool, config)) else outcome.sentence,
            "details": dict(getattr(outcome, "details", {}) or {}),
        }  # fmt: skip
    return {"candidates": shown, "choice": choice, "auction": auction}


def _resolve(
    task: Task, config: OrgConfig, pool: CandidatePool, runner: PolicyRunner, floor: Floor, now: datetime, records: list[Model]
) -> Outcome:
    """`records` gets the rows of an auction that was held; nobody writes them."""
    strategies = (
        AuctionStrategy(runner), PlanRetrieveStrategy(runner), StaticStrategy(), LeastLoadedStrategy(), RoundRobinStrategy(remembers=False),
    )  # fmt: skip
    resolver = HeadAgentResolver(config, floor=floor, strategies={strategy.name: strategy for strategy in strategies})
    found, _ = carried_out(resolver.resolve([([batch.facts_of(task)], pool)], now=now, records=records), floor)
    return found[task.key]


def _auction(questions: Sequence[Question], records: Sequence[Model], *, asked: bool) -> dict[str, Any] | None:
    """The terms and who would be called; `held`, when they were: how it ended, as `explain` tells of a real one."""
    if not questions:
        return None
    question = questions[0]
    if not isinstance(question, CallForBids):
        return {"source": "service", "asked": asked, "call": dict(question.body), "called": sorted(question.body["candidate_subject_ids"])}
    found = {"source": "bids", "asked": asked, "call": dict(question.call), "called": sorted(question.book.called)}
    if asked:
        found["bids"] = {agent: {"price": bid.price, "eta_s": bid.eta_s, "confidence": bid.confidence}
                         for agent, bid in list(question.book.bids.items())[:BIDS_SHOWN]}  # fmt: skip
        bids = [row for row in records if isinstance(row, Bid)]
        found["held"] = next((explain.auction(row, bids) for row in records if isinstance(row, Auction)), None)
        found["silent"] = sorted(question.book.silent)[:BIDS_SHOWN]
    return found


# ---- in a word --------------------------------------------------------------------------------------------


def _known_already(entry: TaskEntry, config: OrgConfig, options: Options) -> dict[str, Any]:
    return {
        "task_id": entry.task_id,
        "outcome": "repeated",
        "summary": "The same entry was submitted before: it would get the same answer again.",
        "config_version": config.version,
        "policies": [],
    }


def _told(task: Task, found: Mapping[str, Any]) -> tuple[str, str]:
    if task.status == TaskStatus.REJECTED:
        return "rejected", f"It would be rejected: {found['reason']}"
    choice = found["choice"]
    before = found["queue"]["position"]
    place = "next in its job space" if not before else f"behind {before} in its job space"
    if choice["found"]:
        gets = "would be proposed to a person" if task.execution_mode == ExecutionMode.HYBRID else "would get it"
        then = f"{place}, and {choice['winner']} {gets} ({choice['strategy']}): {choice['because']}"
        outcome = "assigned"
    elif found["auction"] and not found["auction"]["asked"]:
        called = explain_words.many(len(found["auction"]["called"]), "candidate")
        held = "an auction would be held among" if found["auction"]["source"] == "bids" else "the org's auction service would choose among"
        then, outcome = f"{place}, and {held} {called}", "auction"
    elif choice["waits"]:
        then, outcome = f"{place}, and it would wait: {choice['because']}", "waiting"
    else:
        then, outcome = f"{place}, and no agent could be assigned: {choice['because']}", "no_head_agent"
    if found["queue"]["held_by"]:
        then = f"{then}; held by: {'; '.join(found['queue']['held_by'])}"
    if task.status != TaskStatus.QUEUED:
        return str(task.status), f"It would wait for a person: {found['reason']}. Once approved: {then}."
    return outcome, f"It would be accepted: {then}."


