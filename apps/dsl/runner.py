"""Asking policies. Many questions of one hook go to the sandbox in one batch; whatever goes wrong with a script is
data in its decision, never an exception, and the table in `policies.py` says what the platform does about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.core import bulk, ids, observe, tracing, turnstile
from apps.dsl import answers, remote
from apps.dsl.book import Script, ScriptBook, book
from apps.dsl.engine import Answer, Engine, Evaluation, engine
from apps.dsl.models import PolicyRun
from apps.dsl.policies import POLICIES, Hook, instead
from apps.dsl.scripts import SCRIPT_ID_LENGTH, can_exist
from apps.orgs.config_store import OrgConfig, OrgConfigProvider

ERROR_LENGTH = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyRequest:
    org_id: str
    task_key: str
    script_id: str | None
    """The task's own script, else the org's; None or "": no script is configured, and the decision is empty."""
    input: dict[str, Any]
    """The arguments by name, as in `policies.POLICIES`: `{"task": task_facts(…)}`, for a plan also `"candidates"`."""
    timeout_ms: int
    config_version: int
    config: OrgConfig | None = None
    """Where remote policies are; None: looked up when a script is called `remote:…`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyDecision:
    """What a script said. `output` is parsed and typed when `error` is ""; None and "" together: nobody was asked."""

    request: PolicyRequest
    hook: Hook
    script_id: str
    script_version: int
    script_sha256: str
    output: dict[str, Any] | None
    error: str
    duration_us: int
    at: datetime
    place: str = "local"
    http_status: int = 0

    def row(self) -> PolicyRun:
        """The record of it, unsaved."""
        request = self.request
        return bulk.new(
            PolicyRun,
            id=ids.time_ordered(), org_id=request.org_id, task_key=request.task_key, hook=self.hook, script_id=self.script_id,
            script_version=self.script_version, script_sha256=self.script_sha256, input=request.input, output=self.output,
            error=self.error, instead=instead(self.hook, request.config) if self.error and request.config else "",
            duration_us=self.duration_us, place=self.place, http_status=self.http_status,
            config_version=request.config_version, at=self.at,
        )  # fmt: skip


class PolicyRunner:
    def __init__(self, *, scripts: ScriptBook | None = None, sandbox: Engine | None = None) -> None:
        self._scripts = scripts
        self._sandbox = sandbox

    def decide_many(self, hook: Hook, requests: Sequence[PolicyRequest], *, now: datetime) -> list[PolicyDecision]:
        """One decision each, in order."""
        policy = POLICIES[hook]
        elsewhere = self._elsewhere(requests)
        shelf = self._scripts or book()
        found = shelf.find_many(
            (request.org_id, request.script_id) for request in requests if request.script_id and can_exist(request.script_id)
        )
        scripts = [found.get((request.org_id, request.script_id or "")) for request in requests]
        here = {(request.org_id, request.script_id or "") for index, request in enumerate(requests) if index not in elsewhere}
        absent = {pair for pair, script in found.items() if script is None and pair in here}
        dormant = shelf.dormant(absent) if absent else set()
        asked = [index for index, script in enumerate(scripts) if script is not None and script.hook is hook and index not in elsewhere]
        evaluations = [
            Evaluation(
                source=scripts[index].source,
                sha256=scripts[index].sha256,
                function=policy.function,
                arguments=tuple(requests[index].input[name] for name in policy.arguments),
                timeout_ms=requests[index].timeout_ms,
            )
            for index in asked
        ]
        with tracing.span(f"policy {hook}", attributes={"jobplatform.hook": hook.value, "jobplatform.count": len(asked)}):
            answered = dict(zip(asked, (self._sandbox or engine()).evaluate(evaluations), strict=True)) if asked else {}
        told = {}
        if elsewhere:
            with turnstile.aside():
                told = _ask_elsewhere(hook, requests, scripts, elsewhere, now)
        decisions = [
            _remote_decision(hook, request, told[index], now)
            if index in told
            else _decision(hook, request, script, answered.get(index), now, dormant=(request.org_id, request.script_id) in dormant)
            for index, (request, script) in enumerate(zip(requests, scripts, strict=True))
        ]
        for decision in decisions:
            outcome = "error" if decision.error else "ok" if decision.script_id else "none"
            observe.POLICY_SECONDS.observe(decision.duration_us / 1e6, hook.value, outcome)
        return decisions

    def _elsewhere(self, requests: Sequence[PolicyRequest]) -> dict[int, OrgConfig]:
        """Which requests go to the service of their org, and that org's configuration."""
        configs = {request.org_id: request.config for request in requests if request.config is not None}
        marked = {
            request.org_id
            for request in requests
            if request.org_id not in configs and request.script_id and request.script_id.startswith(remote.PREFIX)
        }
        if marked:
            configs.update(OrgConfigProvider().of_many(marked))
        return {
            index: configs[request.org_id]
            for index, request in enumerate(requests)
            if request.script_id and request.org_id in configs and remote.is_remote(request.script_id, configs[request.org_id])
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    """What came from a service, and which version it was asked for (0: none in particular)."""

    version: int
    said: remote.RemoteAnswer


def _ask_elsewhere(
    hook: Hook, requests: Sequence[PolicyRequest], scripts: Sequence[Script | None], elsewhere: dict[int, OrgConfig], now: datetime
) -> dict[int, _Told]:
    told: dict[int, _Told] = {}
    questions: dict[int, remote.Question] = {}
    for index, config in elsewhere.items():
        request = requests[index]
        found, here = remote.named(request.script_id or ""), scripts[index]
        if found is None:
            answer = remote.RemoteAnswer(answer=Answer(kind="remote", error="there can be no remote policy of that name"))
            told[index] = _Told(version=0, said=answer)
            continue
        name, version = found
        # An org that runs all its scripts elsewhere may still keep their texts here: their version goes along.
        version = version or (here.version if here is not None else None)
        questions[index] = remote.Question(
            org_id=request.org_id, script_id=name, version=version, hook=hook, input=request.input, config=config
        )
    for (index, question), said in zip(questions.items(), remote.ask_many(list(questions.values()), now=now), strict=True):
        told[index] = _Told(version=question.version or 0, said=said)
    return told


def _remote_decision(hook: Hook, request: PolicyRequest, told: _Told, now: datetime) -> PolicyDecision:
    output, error = _believed(hook, request, told.said.answer)
    return PolicyDecision(
        request=request,
        hook=hook,
        script_id=(request.script_id or "")[:SCRIPT_ID_LENGTH],
        script_version=told.version,
        script_sha256="",
        output=output,
        error=error[:ERROR_LENGTH],
        duration_us=told.said.answer.duration_us,
        at=now,
        place="remote",
        http_status=told.said.http_status,
    )


def _decision(
    hook: Hook, request: PolicyRequest, script: Script | None, answer: Answer | None, now: datetime, *, dormant: bool = False
) -> PolicyDecision:
    output, error = None, ""
    if script is None and dormant:
        error = "the policy script has no active version"
    elif script is None:
        # The same words whether the script is another org's or nobody's.
        error = "there is no such policy script" if request.script_id else ""
    elif answer is None:
        error = f"the script answers {script.hook}, not {hook}"
    else:
        output, error = _believed(hook, request, answer)
    return PolicyDecision(
        request=request,
        hook=hook,
        script_id=(request.script_id or "")[:SCRIPT_ID_LENGTH],
        script_version=script.version if script else 0,
        script_sha256=script.sha256 if script else "",
        output=output,
        error=error[:ERROR_LENGTH],
        duration_us=answer.duration_us if answer else 0,
        at=now,
    )


def _believed(hook: Hook, request: PolicyRequest, answer: Answer) -> tuple[dict[str, Any] | None, str]:
    """(output, error): an answer is parsed before it is believed, wherever it comes from."""
    if answer.kind:
        return None, answer.error
    try:
        return answers.parse(hook, answer.value, request.input), ""
    except answers.BadAnswer as bad:
        return None, str(bad)
