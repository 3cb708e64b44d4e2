"""What an org can configure: one table. A field of `OrgConfig` is a key; beside it stand what it may be, its
default and its meaning. The API, the admin, the README's table and every reader take it from here.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from django.conf import settings

from apps.core import addresses, outbound
from apps.core.errors import Invalid, Problem

STRATEGIES = ("static", "least_loaded", "round_robin", "auction", "plan+retrieve")
DAY = 86_400


class Rule(Protocol):
    """What a value may be. Types are strict: true is not 1, 1.0 is not 1, "1" is not 1."""

    @property
    def type(self) -> str:
        """For people: `whole number 1…100`."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with a parsed JSON value; None when nothing is."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    type: str = "true or false"

    def problem(self, value: Any) -> str | None:
        return None if isinstance(value, bool) else "must be true or false"

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class Number:
    least: float
    most: float
    whole: bool = False

    @property
    def type(self) -> str:
        return f"{'whole number' if self.whole else 'number'} {self.least}…{self.most}"

    def problem(self, value: Any) -> str | None:
        fits = isinstance(value, int if self.whole else (int, float)) and not isinstance(value, bool) and self.least <= value <= self.most
        return None if fits else f"must be a {self.type}"

    def schema(self) -> dict[str, Any]:
        return {"type": "integer" if self.whole else "number", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, kw_only=True)
class Choice:
    options: tuple[str, ...]

    @property
    def type(self) -> str:
        return "one of " + ", ".join(self.options)

    def problem(self, value: Any) -> str | None:
        if isinstance(value, str) and value in self.options:
            return None
        return f"must be {self.type}{_did_you_mean(value, self.options)}"

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.options)}


@dataclass(frozen=True, kw_only=True)
class ListOf:
    each: Rule
    most: int = 16

    @property
    def type(self) -> str:
        return f"list, each {self.each.type}"

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, list) or len(value) > self.most:
            return f"must be a list of at most {self.most}"
        if any(item in value[:index] for index, item in enumerate(value)):
            return "must not hold the same twice"
        return next((f"item {index}: {wrong}" for index, item in enumerate(value) if (wrong := self.each.problem(item))), None)

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.each.schema(), "maxItems": self.most, "uniqueItems": True}


@dataclass(frozen=True, kw_only=True)
class Text:
    pattern: str
    most: int
    type: str

    def problem(self, value: Any) -> str | None:
        fits = isinstance(value, str) and len(value) <= self.most and re.fullmatch(self.pattern, value)
        return None if fits else f"must be a {self.type} of at most {self.most} characters"

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.most, "minLength": 1}


@dataclass(frozen=True, kw_only=True)
class OrNull:
    rule: Rule

    @property
    def type(self) -> str:
        return f"{self.rule.type}, or null"

    def problem(self, value: Any) -> str | None:
        wrong = None if value is None else self.rule.problem(value)
        return wrong and f"{wrong}, or null"

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.rule.schema(), {"type": "null"}]}


@dataclass(frozen=True, kw_only=True)
class Url:
    """An address that the platform may call (`apps.core.outbound`)."""

    type: str = "http or https URL"

    def problem(self, value: Any) -> str | None:
        try:
            # Which of the open hosts this org names is seen when it is called.
            outbound.check_url(value, allow=settings.OUTBOUND_ALLOW)
        except outbound.UnsafeUrl as unsafe:
            return unsafe.message if unsafe.message.startswith("must") else f"must be a URL the platform may call; it {unsafe.message}"
        return None

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uri", "maxLength": 2048, "minLength": 1}


@dataclass(frozen=True, kw_only=True)
class OpenHost:
    """A host off the public internet that the platform's operator has opened to orgs."""

    type: str = "host or host:port that OUTBOUND_ALLOW names"

    def problem(self, value: Any) -> str | None:
        wrong = addresses.host_problem(value)
        return wrong or (None if addresses.is_open(value) else "is not among the hosts that OUTBOUND_ALLOW opens to orgs")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": 260, "minLength": 1}


SCRIPT = Text(
    pattern=r"(remote:)?[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*(@[1-9][0-9]{0,8})?", most=120,
    type="script id such as approval/default",
)  # fmt: skip
SUBJECT = Text(pattern=r"[^\x00-\x1f\x7f]+", most=180, type="subject id")
SECRET = Text(pattern=r"[!-~]{16,}", most=200, type="secret (printable ASCII, 16 characters or more)")
WORD = Text(pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]*", most=64, type="word")
SPACE = Text(pattern=r"[^\x00-\x1f\x7f]+", most=180, type="job space id")
SENTENCE = Text(pattern=r"[^\x00-\x1f\x7f]+", most=500, type="sentence")
FACT_PATH = Text(pattern=r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,7}", most=200, type="path into a task's facts such as payload.customer")
CONCURRENCY_MODES = ("queue", "cancel_newest", "cancel_running")


@dataclass(frozen=True, kw_only=True)
class Key:
    name: str
    rule: Rule
    default: Any
    meaning: str
    secret: bool
    """Write-only: no answer, log or audit row shows the value."""

    @property
    def reaches_out(self) -> bool:
        """It says who outside is called, or with which secret."""
        rule = self.rule
        while isinstance(rule, (OrNull, ListOf)):
            rule = rule.rule if isinstance(rule, OrNull) else rule.each
        return self.secret or isinstance(rule, (Url, OpenHost))

    def shown(self, value: Any) -> Any:
        return "(secret)" if self.secret and value is not None else value


def _key(rule: Rule, default: Any, meaning: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"rule": rule, "meaning": meaning, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class OrgConfig:
    """What one org wants, defaults filled in. `version` rises with every change: decisions record it."""

    version: int = 0

    approval_dsl_id: str | None = _key(
        OrNull(rule=SCRIPT), "approval/default", "script that approves tasks; null: every task waits for a person")
    priority_assigner_dsl_id: str | None = _key(
        OrNull(rule=SCRIPT), None, "script that gives tasks their priority; null: the submitter's own, first come first served")
    auction_input_dsl_id: str | None = _key(
        OrNull(rule=SCRIPT), None, "script that sets the terms of auctions")
    plan_retrieve_dsl_id: str | None = _key(
        OrNull(rule=SCRIPT), None, "script that picks the head agent from the candidates")
    agent_resolution_strategy: str = _key(
        Choice(options=STRATEGIES), "least_loaded", "how the head agent of a task is chosen")
    agent_resolution_fallbacks: tuple[str, ...] = _key(
        ListOf(each=Choice(options=STRATEGIES)), (), "strategies to try, in order, when the first finds nobody")
    static_head_agent_subject_id: str | None = _key(
        OrNull(rule=SUBJECT), None, "the head agent of strategy static; must be in the candidate pool")
    auction_service_url: str | None = _key(
        OrNull(rule=Url()), None, "auctions are held by this service instead of by calling the agents; null: by calling them")
    auction_service_timeout_ms: int = _key(
        Number(least=50, most=10_000, whole=True), 2000, "milliseconds the auction service may take")
    candidate_role_type: str = _key(
        WORD, "SCOUTING", "subjects holding a role of this type are candidates for head agent")
    role_group_url: str | None = _key(
        OrNull(rule=Url()), None, "role service that says which roles there are; null: the platform's own tables")
    subject_roles_url: str | None = _key(
        OrNull(rule=Url()), None, "role service that says who holds them; null: the platform's own tables")
    role_service_token: str | None = _key(
        OrNull(rule=Text(pattern=r"[\x21-\x7e]+", most=500, type="bearer token")), None, "sent to role services", secret=True)
    role_service_timeout_ms: int = _key(
        Number(least=10, most=10_000, whole=True), 2000, "milliseconds role services may take, all questions of a batch together")
    role_service_cache_s: float = _key(
        Number(least=0, most=3600), 30, "seconds an answer of a role service is used again")
    role_service_stale_s: float = _key(
        Number(least=0, most=DAY), 300, "seconds its last answer is still used while it fails; after that tasks wait")
    assignment_deadline_s: float = _key(
        Number(least=0, most=30 * DAY), 0, "seconds a task may wait for an agent before it fails; 0: it fails at once")
    lease_seconds: float = _key(
        Number(least=1, most=3600), 20, "seconds an agent may be silent before it loses a task")
    max_attempts: int = _key(
        Number(least=1, most=100, whole=True), 5, "how often a task is given to an agent before it fails")
    retry_backoff_s: float = _key(
        Number(least=0, most=3600), 2, "seconds before the second attempt; doubles with each further one, up to 300")
    dsl_timeout_ms: int = _key(
        Number(least=10, most=5000, whole=True), 200, "milliseconds a policy script may take")
    dsl_execution: str = _key(
        Choice(options=("local", "remote")), "local", "where scripts run; those called remote:<name> always run at dsl_remote_url")
    dsl_remote_url: str | None = _key(
        OrNull(rule=Url()), None, "service that answers remote policies")
    dsl_remote_secret: str | None = _key(
        OrNull(rule=SECRET), None, "signs what is sent to dsl_remote_url", secret=True)
    dsl_remote_signed_answers: bool = _key(
        Flag(), False, "believe the service only when it signs its answers with dsl_remote_secret")
    dsl_remote_timeout_ms: int = _key(
        Number(least=50, most=10_000, whole=True), 2000, "milliseconds a remote policy may take")
    approval_on_error: str = _key(
        Choice(options=("hold", "reject")), "hold", "a task whose approval policy fails waits for a person, or is rejected")
    priority_on_error: int | None = _key(
        OrNull(rule=Number(least=-1000, most=1000, whole=True)), None, "priority when its policy fails; null: the submitter's own")
    auction_input_on_error: str = _key(
        Choice(options=("fallback", "fail")), "fallback", "when the script of auctions fails: the next strategy, or no agent")
    plan_retrieve_on_error: str = _key(
        Choice(options=("fallback", "fail")), "fallback", "when the script that picks the agent fails: the next strategy, or no agent")
    policy_activation_needs_other_person: bool = _key(
        Flag(), False, "a version of a policy script is activated by somebody else than who wrote it")
    agent_delivery: str = _key(
        Choice(options=("jetstream", "plain")), "jetstream", "plain: the plain NATS subject of existing agents, at most once")
    default_agent_slots: int = _key(
        Number(least=1, most=10_000, whole=True), 8, "tasks at a time assumed of an agent that has not announced itself")
    agent_prefetch: float = _key(
        Number(least=0, most=10), 1, "deliveries sent ahead to an agent, per slot")
    breaker_failures: int = _key(
        Number(least=0, most=1000, whole=True), 5, "failures in a row that close an agent off for a while; 0: never")
    breaker_cooling_s: float = _key(
        Number(least=1, most=DAY), 30, "seconds the first time; doubles each time its probe fails, up to breaker_cooling_max_s")
    breaker_cooling_max_s: float = _key(
        Number(least=1, most=DAY), 600, "seconds an agent is closed off at most before it is given a task to try")
    quarantine_after_crashes: int = _key(
        Number(least=0, most=100, whole=True), 3, "agents a task may crash before it fails as poison; 0: any number")
    reputation_half_life_s: float = _key(
        Number(least=60, most=365 * DAY), 7 * DAY, "seconds after which an attempt counts half in its agent's reputation")
    reputation_prior_successes: float = _key(
        Number(least=0.01, most=1000), 1, "successes a new agent is credited with, before any evidence")
    reputation_prior_failures: float = _key(
        Number(least=0.01, most=1000), 1, "failures a new agent is charged with, before any evidence")
    verification_required: bool = _key(
        Flag(), False, "hold results until the verifier of the task decides")
    rate_limit_per_minute: float | None = _key(
        OrNull(rule=Number(least=0.01, most=10_000_000)), None, "new tasks a minute from the whole org, else 429; null: no limit")
    rate_limit_burst: int | None = _key(
        OrNull(rule=Number(least=1, most=10_000_000, whole=True)), None, "so many of the org's new tasks at once; null: a minute's worth")
    key_rate_limit_per_minute: float | None = _key(
        OrNull(rule=Number(least=0.01, most=10_000_000)), None, "new tasks a minute with a key without its own limit; null: no limit")
    max_open_tasks: int | None = _key(
        OrNull(rule=Number(least=0, most=100_000_000, whole=True)), None, "tasks that may be open at once, else 429; null: no limit")
    sub_tasks_when_parent_ends: str = _key(
        Choice(options=("cancel", "keep")), "cancel", "what becomes of the open sub-tasks of a task that ends")
    approval_approver_role_type: str | None = _key(
        OrNull(rule=WORD), None, "holders of a role of this type may approve when the policy names nobody; null: operators")
    approval_expiry_s: float | None = _key(
        OrNull(rule=Number(least=1, most=365 * DAY)), None, "seconds a task waits for a person before it expires; null: no limit")
    approval_escalation_s: float | None = _key(
        OrNull(rule=Number(least=1, most=365 * DAY)), None, "seconds until more people may decide; null: never")
    escalation_role_type: str | None = _key(
        OrNull(rule=WORD), None, "whom an undecided question goes to when it escalates; null: operators")
    four_eyes: bool = _key(
        Flag(), False, "whoever submitted a task may not approve it, whoever did it may not verify it")
    verification_expiry_s: float | None = _key(
        OrNull(rule=Number(least=1, most=365 * DAY)), None, "seconds a result waits for its verifier before it expires; null: never")
    verification_escalation_s: float | None = _key(
        OrNull(rule=Number(least=1, most=365 * DAY)), None, "seconds until others may verify; null: never")
    human_slots: int = _key(
        Number(least=1, most=10_000, whole=True), 5, "tasks at a time for a person")
    human_lease_s: float | None = _key(
        OrNull(rule=Number(least=60, most=365 * DAY)), None, "seconds a person may be silent before a task goes to another; null: no limit")
    task_timeline_default_s: float | None = _key(
        OrNull(rule=Number(least=1, most=365 * DAY)), None, "seconds a task without its own deadline may take; null: no limit")
    task_retention_days: int = _key(
        Number(least=0, most=36_500, whole=True), 365, "days that ended tasks and sessions are kept with all of theirs; 0: for ever")
    decision_retention_days: int = _key(
        Number(least=0, most=36_500, whole=True), 0, "days that runs of policies, auctions and bids are kept; 0: as long as their task")
    webhook_retention_days: int = _key(
        Number(least=1, most=365, whole=True), 30, "days the log of webhook deliveries is kept, at most as long as tasks are")
    outbound_allow: tuple[str, ...] = _key(
        ListOf(each=OpenHost()), (), "hosts off the public internet that this org calls; the operator opens them")
    fair_share_weight: float = _key(
        Number(least=0.01, most=1000), 1, "the org's share of dispatching beside other orgs that have tasks waiting")
    max_inflight: int | None = _key(
        OrNull(rule=Number(least=1, most=1_000_000, whole=True)), None, "tasks with agents at a time; null: no limit")
    aging_points_per_minute: float = _key(
        Number(least=0, most=1000), 0, "points of priority that a task gains for each minute it waits; 0: none")
    concurrency_key: str | None = _key(
        OrNull(rule=FACT_PATH), None, "the fact of a task, by its dotted path, that it shares a concurrency limit by; null: none")
    concurrency_limit: int = _key(
        Number(least=1, most=10_000, whole=True), 1, "tasks of one concurrency key with agents at a time")
    concurrency_mode: str = _key(
        Choice(options=CONCURRENCY_MODES), "queue", "one more than the limit: waits, is cancelled, or has the oldest cancelled")
    queue_paused: str | None = _key(
        OrNull(rule=SENTENCE), None, "why nothing is given to agents for now; null: it is not paused")
    paused_job_spaces: tuple[str, ...] = _key(
        ListOf(each=SPACE, most=100), (), "job spaces of which nothing is given to agents for now")  # fmt: skip


TABLE: dict[str, Key] = {
    each.name: Key(name=each.name, default=each.default, **each.metadata) for each in fields(OrgConfig) if "rule" in each.metadata
}


class UnknownKey(Invalid):
    """The table has no such key."""

    def __init__(self, key: str) -> None:
        sentence = _ended(f"There is no configuration key '{key[:64]}'{_did_you_mean(key, tuple(TABLE))}")
        super().__init__([Problem(field="key", code="unknown_key", message=sentence)], sentence)


class WrongValue(Invalid):
    """The key cannot be that."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__([Problem(field="value", code="wrong_value", message=message)], _ended(f"The value of '{key}' {message}"))


def find(name: str) -> Key:
    """Raises UnknownKey."""
    try:
        return TABLE[name]
    except KeyError:
        raise UnknownKey(name) from None


def check(name: str, value: Any) -> Key:
    """The key, when `value` is good for it. Raises UnknownKey or WrongValue."""
    key = find(name)
    wrong = key.rule.problem(value)
    if wrong:
        raise WrongValue(name, wrong)
    return key


def config_of(values: dict[str, Any], *, version: int) -> OrgConfig:
    """From what was set, as JSON values already checked, by key."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return OrgConfig(version=version, **given)


def _did_you_mean(wrong: Any, options: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(wrong[:64], options, n=1, cutoff=0.5) if isinstance(wrong, str) else []
    return f"; did you mean '{near[0]}'?" if near else ""


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith("?") else f"{sentence}."
