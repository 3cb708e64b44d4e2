"""Policy scripts over HTTP: list, look, compare, register a version, run its tests, activate, retire. An org sees its own
and the built-in ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Max, Q
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Invalid, Problem
from apps.core.http import Limits, answer, read_object
from apps.core.pages import page_of
from apps.dsl import api_docs as docs
from apps.dsl import script_tests, scripts
from apps.dsl.book import BUILT_IN
from apps.dsl.differing import comparison
from apps.dsl.models import PolicyScript
from apps.dsl.policies import POLICIES, Hook
from apps.orgs.access import RequireRole
from apps.orgs.config_store import OrgConfigProvider

PAGE = 200
# The text of a script is one long string; `scripts.register` says when it is too long.
LIMITS = Limits(string=1024 * 1024)
REGISTRATION = {"script_id": str, "hook": str, "source": str, "activate": bool, "tests": list}


class Policies(APIView):
    permission_classes = [RequireRole("operator", POST="org_admin")]

    @docs.LIST
    def get(self, request: Request) -> HttpResponse:
        hook, after = request.query_params.get("hook"), request.query_params.get("cursor", "")
        if hook is not None and hook not in set(Hook):
            raise Invalid([Problem(field="hook", code="not_allowed", message=f"must be one of {', '.join(Hook)}")])
        visible = _visible(request).filter(script_id__gt=after.replace("\x00", ""), **({"hook": hook} if hook else {}))
        names = visible.order_by("script_id").values_list("script_id", flat=True).distinct()
        page, following = page_of(names, PAGE, str)
        items = {}
        # Built-in ones come first ("" sorts before any org), so an org's own takes the place of its namesake.
        rows = visible.filter(script_id__in=page).values("org_id", "script_id", "hook").order_by("org_id")
        for row in rows.annotate(latest=Max("version"), active=Max("version", filter=Q(status=PolicyScript.Status.ACTIVE))):
            items[row["script_id"]] = {
                "script_id": row["script_id"],
                "hook": row["hook"],
                "built_in": row["org_id"] == BUILT_IN,
                "active_version": row["active"],
                "latest_version": row["latest"],
            }
        return answer({"items": [items[name] for name in page], "next_cursor": following})

    @docs.REGISTER
    def post(self, request: Request) -> HttpResponse:
        wanted = _typed(read_object(request, LIMITS), REGISTRATION, optional={"activate", "tests"})
        registered = scripts.register(org_id=request.user.org_id, **wanted, by=request.user.actor, now=clock.now())
        return answer(_named(request, registered.script), 201 if registered.created else 200)


class Policy(APIView):
    permission_classes = [RequireRole("operator")]

    @docs.SHOW
    def get(self, request: Request, script_id: str) -> HttpResponse:
        versions = _versions(request, script_id)
        shown = next((v for v in versions if v.status == PolicyScript.Status.ACTIVE), versions[0])
        if "version" in request.query_params:
            asked = request.query_params["version"]
            shown = next((v for v in versions if str(v.version) == asked), None)
            if shown is None:
                raise scripts.UnknownScript(script_id=script_id)
        full = PolicyScript.objects.get(pk=shown.pk)
        texts = {"source": full.source, "tests": full.tests}
        return answer({**_named(request, full), **texts, "versions": [_version(version) for version in versions]})


class PolicyDiff(APIView):
    """What changed from one version to another."""

    permission_classes = [RequireRole("operator")]

    @docs.DIFF
    def get(self, request: Request, script_id: str) -> HttpResponse:
        versions = _versions(request, script_id)
        newest = versions[0].version
        before = versions[1].version if len(versions) > 1 else newest
        wanted = {name: request.query_params.get(name, default) for name, default in (("from", str(before)), ("to", str(newest)))}
        chosen = {name: next((v for v in versions if str(v.version) == asked), None) for name, asked in wanted.items()}
        if None in chosen.values():
            raise scripts.UnknownScript(script_id=script_id)
        old, new = (PolicyScript.objects.get(pk=chosen[name].pk) for name in ("from", "to"))
        return answer({"script_id": script_id, "from": old.version, "to": new.version, **comparison(old, new)})


class RunTests(APIView):
    """A version's own tests, or others given here, on it. Nothing is stored."""

    permission_classes = [RequireRole("operator")]

    @docs.RUN_TESTS
    def post(self, request: Request, script_id: str) -> HttpResponse:
        wanted = _typed(read_object(request, LIMITS), {"version": int, "tests": list}, optional={"version", "tests"})
        if "tests" in wanted and (wrong := script_tests.problems(wanted["tests"])):
            raise Invalid(wrong)
        versions = _versions(request, script_id)
        chosen = next((v for v in versions if v.version == wanted.get("version", versions[0].version)), None)
        if chosen is None:
            raise scripts.UnknownScript(script_id=script_id)
        script = PolicyScript.objects.get(pk=chosen.pk)
        outcomes = scripts.test(script, wanted.get("tests"))
        passed = sum(outcome.passed for outcome in outcomes)
        shown = {"script_id": script_id, "version": script.version, "passed": passed, "failed": len(outcomes) - passed}
        return answer({**shown, "tests": [outcome.json() for outcome in outcomes]})


class PolicyStatus(APIView):
    """One class for both verbs: `change` is `scripts.activate` or `scripts.retire`."""

    permission_classes = [RequireRole("org_admin")]
    change: Callable[..., PolicyScript] | None = None

    @docs.CHANGE
    def post(self, request: Request, script_id: str) -> HttpResponse:
        version = _typed(read_object(request), {"version": int})["version"]
        if not scripts.can_exist(script_id) or not 0 < version < 2**31:
            raise scripts.UnknownScript(script_id=script_id)
        who = {"by": request.user.actor, "now": clock.now()}
        return answer(_named(request, self.change(org_id=request.user.org_id, script_id=script_id, version=version, **who)))


def _visible(request: Request) -> Any:
    return PolicyScript.objects.filter(org_id__in=[BUILT_IN, request.user.org_id])


def _versions(request: Request, script_id: str) -> list[PolicyScript]:
    """The org's own versions, else the built-in ones, newest first; never empty. Raises UnknownScript."""
    found = _visible(request).filter(script_id=script_id).defer("source").order_by("-version") if scripts.can_exist(script_id) else []
    own = [version for version in found if version.org_id != BUILT_IN]
    if not (versions := own or list(found)):
        raise scripts.UnknownScript(script_id=script_id)
    return versions


def _version(script: PolicyScript) -> dict[str, Any]:
    return {
        "script_id": script.script_id,
        "hook": script.hook,
        "built_in": script.org_id == BUILT_IN,
        "version": script.version,
        "status": script.status,
        "sha256": script.sha256,
        "tests_count": len(script.tests),
        "created_at": clock.iso(script.created_at),
        "created_by": script.created_by,
    }


def _named(request: Request, script: PolicyScript) -> dict[str, Any]:
    """With what answers now, and the org's configuration key that names the script: one that none names answers only for tasks
    that do."""
    key = POLICIES[Hook(script.hook)].config_key
    names = getattr(OrgConfigProvider().of(request.user.org_id), key)
    active = _visible(request).filter(script_id=script.script_id, status=PolicyScript.Status.ACTIVE).order_by("-org_id").first()
    facts = {"active_version": active.version if active else None, "named_by": [key] if names == script.script_id else []}
    return {**_version(script), **facts}


def _typed(body: dict[str, Any], fields: dict[str, type], optional: frozenset[str] | set[str] = frozenset()) -> dict[str, Any]:
    names = {str: "a string", bool: "a boolean", int: "an integer", list: "a list"}
    problems = [Problem(field=name[:64], code="unknown", message="is not known here") for name in body if name not in fields]
    for name, wanted in fields.items():
        if name not in body:
            if name not in optional:
                problems.append(Problem(field=name, code="missing", message="is required"))
        elif type(body[name]) is not wanted:
            problems.append(Problem(field=name, code="wrong_type", message=f"must be {names[wanted]}"))
    if problems:
        raise Invalid(problems)
    return body
