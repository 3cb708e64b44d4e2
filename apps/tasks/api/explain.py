"""Asking why, and asking what would be: explain and simulate over HTTP."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema

from apps.core import clock, ids
from apps.core.auth import Principal
from apps.core.errors import Forbidden, Invalid, PlatformError, Problem
from apps.core.http import answer, read_object
from apps.dsl.book import BUILT_IN, Script, script_of
from apps.dsl.models import PolicyScript
from apps.dsl.policies import POLICIES, Hook
from apps.dsl.scripts import can_exist
from apps.orgs import config_keys
from apps.orgs.access import OPERATOR, ORG_ADMIN
from apps.tasks.api import docs_explain as docs
from apps.tasks.api.tasks import TaskView, enveloped
from apps.tasks.explain import explain
from apps.tasks.parser import InitialJobParser
from apps.tasks.simulate import Options, simulate

OPTIONS = {"scripts", "config", "ask_bids"}
OF_SCRIPTS = {policy.config_key: policy.hook for policy in POLICIES.values()}


class ForOperators(Forbidden):
    sentence = "Only operators and admins may simulate with other scripts, other configuration, or really ask for bids."


class Explain(TaskView):
    @extend_schema(**docs.EXPLAIN)
    def get(self, request: Any, task_id: str) -> HttpResponse:
        return answer(explain(self.task(task_id), now=clock.now()))


class Simulate(TaskView):
    @extend_schema(**docs.SIMULATE)
    def post(self, request: Any) -> HttpResponse:
        body = read_object(request)
        kind, data, given, prefix = "", body, {}, ""
        if "type" in body or "options" in body:
            given = body.get("options", {})
            (kind, data), prefix = enveloped({"type": "task", **{k: v for k, v in body.items() if k != "options"}}), "data."
        options = read_options(given, request.user)
        now = clock.now()
        if isinstance(data, dict):
            # Nothing will ever be called that: who only wants to know need not think of a name.
            name = "sub_task_id" if kind == "sub_task" or "sub_task_id" in data and not kind else "task_id"
            data = {name: f"simulated-{ids.time_ordered()}", **data}
        try:
            entry = InitialJobParser().parse(data, kind=kind, submitter=request.user.submitter)
            return answer(simulate(entry, request.user, options, now=now))
        except Invalid as error:
            problems = [Problem(field=(prefix + p.field).rstrip("."), code=p.code, message=p.message) for p in error.problems]
            raise Invalid(problems) from None


def read_options(given: Any, principal: Principal) -> Options:
    """Raises Invalid with every problem, or ForOperators."""
    if not isinstance(given, dict):
        raise Invalid([Problem(field="options", code="wrong_type", message="must be an object")])
    problems = [Problem(field=f"options.{name[:64]}", code="unknown", message="is not an option") for name in given.keys() - OPTIONS]
    ask_bids = given.get("ask_bids", False)
    if not isinstance(ask_bids, bool):
        problems.append(Problem(field="options.ask_bids", code="wrong_type", message="must be true or false"))
    for name in ("scripts", "config"):
        if not isinstance(given.get(name, {}), dict):
            problems.append(Problem(field=f"options.{name}", code="wrong_type", message="must be an object"))
    if problems:
        raise Invalid(problems)
    if any(given.values()) and principal.role not in (OPERATOR, ORG_ADMIN):
        raise ForOperators()
    scripts = _scripts(given.get("scripts", {}), principal.org_id, problems)
    config = _config(given.get("config", {}), problems)
    if problems:
        raise Invalid(problems)
    return Options(scripts=scripts, config=config, ask_bids=ask_bids)


def _config(given: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    for name, value in given.items():
        try:
            key = config_keys.check(name, value)
            if name in OF_SCRIPTS:
                problems.append(Problem(field=f"options.config.{name}", code="elsewhere", message="stands in options.scripts"))
            elif key.reaches_out:
                # What is asked of outside, and with which secret, is for the org's admins to set and not to try.
                problems.append(Problem(field=f"options.config.{name}", code="not_allowed", message="cannot be another in a simulation"))
        except Invalid as wrong:
            problems += [Problem(field=f"options.config.{name[:64]}", code=p.code, message=p.message) for p in wrong.problems]
    return given


def _scripts(given: dict[str, Any], org_id: str, problems: list[Problem]) -> dict[Hook, Script]:
    found: dict[Hook, Script] = {}
    for name, wanted in given.items():
        at = f"options.scripts.{name[:64]}"
        if name not in set(Hook):
            problems.append(Problem(field=at, code="unknown", message=f"is not a policy; these are: {', '.join(Hook)}"))
            continue
        try:
            found[Hook(name)] = _script(Hook(name), wanted, org_id, at)
        except PlatformError as wrong:
            problems.append(Problem(field=at, code=wrong.code, message=wrong.sentence))
    return found


def _script(hook: Hook, wanted: Any, org_id: str, at: str) -> Script:
    """`"approval/mine"` is its active version, else its newest; `{"script_id", "version"}` one version, drafts too."""
    script_id, version = (wanted, None) if isinstance(wanted, str) else (None, None)
    if isinstance(wanted, dict) and wanted.keys() <= {"script_id", "version"}:
        script_id, version = wanted.get("script_id"), wanted.get("version")
    if not isinstance(script_id, str) or not (version is None or (type(version) is int and 0 < version < 2**31)):
        raise PlatformError("must be a script id, or {script_id, version}")
    rows = PolicyScript.objects.filter(org_id__in=(org_id, BUILT_IN), script_id=script_id, hook=hook) if can_exist(script_id) else []
    candidates = [row for row in rows if version is None or row.version == version]
    if not candidates:
        raise PlatformError(f"there is no such {hook.replace('_', ' ')} script" + (" in that version" if version else ""))
    # An org's own goes before the built-in one of its name; then the active version, then the newest.
    active = PolicyScript.Status.ACTIVE
    return script_of(max(candidates, key=lambda row: (row.org_id != BUILT_IN, row.status == active, row.version)))
