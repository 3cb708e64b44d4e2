"""The page that tells why a task is where it is, for people. What it shows is what GET /api/v1/tasks/{id}/explain answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.core import clock
from apps.tasks.explain import explain
from apps.tasks.explain_words import span

SHOWN = 50
PLAIN = {"step", "kind", "at", "id", "summary", "bids", "input"}
"""Of a step, what has a place of its own on the page."""


def page(model_admin: admin.ModelAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    task = model_admin.get_object(request, admin.utils.unquote(object_id))
    if task is None:
        raise Http404
    if not model_admin.has_view_permission(request, task):
        raise PermissionDenied
    found = explain(task, now=clock.now())
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"Why {task.task_id} is {task.status.replace('_', ' ')}",
        "opts": model_admin.opts,
        "task": task,
        "found": found,
        "steps": [_shown(step, task.created_at) for step in found["steps"]],
        "waiting": _waiting(found["waiting"]),
    }
    return TemplateResponse(request, "admin/tasks/task/explain.html", context)


def _shown(step: Mapping[str, Any], since: datetime) -> dict[str, Any]:
    at = datetime.fromisoformat(step["at"])
    found: dict[str, Any] = {"number": step["step"], "kind": step["kind"], "summary": step["summary"], "at": at, "after": span(since, at)}
    found["version"] = step.get("config_version")
    found["facts"] = _json({name: value for name, value in step.items() if name not in PLAIN})
    if step["kind"] == "policy":
        found["input"] = _json(step["input"])
        found["sha"] = step["script_sha256"][:12]
    elif step["kind"] == "auction":
        found["bids"] = [_bid(bid, step["winner"]) for bid in step["bids"][:SHOWN]]
        found["not_called"] = (step["details"].get("not_called") or {}).get("agents", {})
    elif step["kind"] == "assignment":
        found["pool"] = _pool(step["decision"], step["winner"])
    elif step["kind"] == "decision" and "barred" in step["details"]:
        found["pool"] = _pool(step["details"], "")
    elif step["kind"] == "transition":
        found["status"] = step["status"]
    return found


def _pool(made: Mapping[str, Any], winner: str) -> list[dict[str, Any]]:
    """Everybody who was looked at: the winner, the eligible, and who was kept out by what."""
    rows = []
    eligible = made.get("eligible", {})
    for name, facts in (eligible if isinstance(eligible, dict) else dict.fromkeys(eligible, {})).items():
        room = facts.get("room")
        load = f"{facts.get('load', 0)} of {'any number' if room is None else f'{room:g}'}"
        rows.append({"agent": name, "won": name == winner, "load": load, "presence": facts.get("presence", ""), "why": ""})
    out = {**{name: f"{why} it before" for name, why in made.get("excluded", {}).items()}, **made.get("barred", {})}
    out = {name: why for name, why in out.items() if name not in eligible}
    rows += [{"agent": name, "won": False, "load": "", "presence": "", "why": why} for name, why in out.items()]
    return sorted(rows, key=lambda row: (not row["won"], bool(row["why"])))[:SHOWN]


def _waiting(waiting: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if waiting is None:
        return None
    pool = waiting.get("candidates")
    seconds = waiting["estimate_s"]
    estimate = f"about {seconds:g} s" if seconds is not None else ""
    return {**waiting, "estimate": estimate, "pool": _pool({**pool, "excluded": {}}, "") if pool else []}


def _bid(bid: Mapping[str, Any], winner: str) -> dict[str, Any]:
    score = "" if bid["score"] is None else f"{bid['score']:g}"
    return {**bid, "parts": _parts(bid["parts"]), "score": score, "won": bid["agent"] == winner and bid["place"]}


def _parts(parts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" if isinstance(value, (int, float)) else f"{name} {value}" for name, value in parts.items())


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
