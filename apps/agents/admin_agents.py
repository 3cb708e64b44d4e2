"""Agents for operators: who is there, how they do, and the verbs. Enrolments: a token is shown on one page, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html

from apps.agents import enrolment
from apps.agents.enrolment import EnrolmentDesk, Invitation
from apps.agents.models import Agent, AgentRecord, Enrolment, Evidence
from apps.agents.records import AgentBook
from apps.agents.shapes import agents_json
from apps.core import admin_cells as cells
from apps.core import clock, overview
from apps.core.admin import PageActions, ReadOnlyAdmin, actor, confirmed
from apps.core.errors import Invalid, PlatformError
from apps.orgs.admin_filters import OrgFilter
from apps.roles.models import Role, Subject

for _name in ("agent", "head_agent_subject_id", "winner"):
    cells.leads(_name, lambda row, name=_name: _link(row.org_id, getattr(row, name)), title="winner" if _name == "winner" else "agent")


@admin.register(Agent)
class AgentAdmin(ReadOnlyAdmin):
    list_display = ("subject_id", "org_id", "state", "seen_ago", "load", "breaker_state", "reputation", "gets_nothing")
    list_filter = (OrgFilter, "is_active")
    search_fields = ("subject_id", "name", "=org__org_id")
    search_help_text = "an agent, or an organization"
    ordering = ("org_id", "subject_id")
    actions = ("pause", "resume", "drain", "undrain", "reset_breaker", "revoke")
    nothing_yet = "No agent yet. An enrolment lets one in (docs/agents.md); a subject with a role that makes it a candidate is one, too."
    fieldsets = (
        (None, {"fields": ("subject_id", "org_id", "name", "state", "why", "gets_nothing")}),
        ("Presence", {"fields": ("presence", "seen", "load", "instances")}),
        ("Card", {"fields": ("capabilities_that_count", "card", "card_problem")}),
        ("How it does", {"fields": ("breaker", "reputation", "ends", "recent", "calibration")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        return super().get_queryset(request).exclude(subject_type=Subject.Type.HUMAN).select_related("org")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Agent | None:
        """Also by what others know it by, `org:subject`."""
        org_id, colon, subject_id = object_id.partition(":")
        if not colon:
            return super().get_object(request, object_id, from_field)
        return Agent.objects.select_related("org").filter(org_id=org_id, subject_id=subject_id).first()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return tuple(name for _, options in self.fieldsets for name in options["fields"])

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The page's agents, looked at together."""
        found = super().get_changelist_instance(request)
        by_org: dict[str, list[Agent]] = {}
        for agent in found.result_list:
            by_org.setdefault(agent.org_id, []).append(agent)
        for org_id, group in by_org.items():
            for agent, facts in zip(group, agents_json(org_id, group, now=clock.now()), strict=True):
                agent._facts = facts
        return found

    # Columns and fields

    @admin.display(description="state")
    def state(self, agent: Agent) -> str:
        return cells.status(_facts(agent)["state"])

    @admin.display(description="because")
    def why(self, agent: Agent) -> str:
        facts = _facts(agent)
        since = facts["since"] and f"since {cells.when(facts['since'])}"
        return " — ".join(part for part in (facts["reason"], facts["by"], since) if part) or "-"

    @admin.display(description="gets nothing because")
    def gets_nothing(self, agent: Agent) -> str:
        return _facts(agent)["barred"] or "-"

    @admin.display(description="presence")
    def presence(self, agent: Agent) -> str:
        facts = _facts(agent)
        told = cells.status(facts["presence"])
        return told if facts["intake"] == "open" else format_html("{}, {} by itself", told, facts["intake"])

    @admin.display(description="last seen")
    def seen(self, agent: Agent) -> str:
        facts = _facts(agent)
        away = facts["away_seconds"]
        return f"{cells.when(facts['last_seen_at'])}{f' ({cells.span(away)} away)' if away else ''}" if facts["last_seen_at"] else "never"

    @admin.display(description="presence")
    def seen_ago(self, agent: Agent) -> str:
        facts = _facts(agent)
        away = facts["away_seconds"]
        since = f", seen {cells.span(away)} ago" if away else "" if facts["last_seen_at"] else ", never seen"
        return format_html("{}{}", self.presence(agent), since)

    @admin.display(description="breaker")
    def breaker_state(self, agent: Agent) -> str:
        return cells.status(_facts(agent)["breaker"]["state"])

    @admin.display(description="tasks / slots")
    def load(self, agent: Agent) -> str:
        return f"{_facts(agent)['load']} / {_facts(agent)['slots'] or '?'}"

    @admin.display(description="processes")
    def instances(self, agent: Agent) -> str:
        rows = ((one["instance"], cells.when(one["seen_at"]), one["slots"], one["intake"]) for one in _facts(agent)["instances"])
        return cells.table(("process", "seen", "slots", "takes work"), rows)

    @admin.display(description="can")
    def capabilities_that_count(self, agent: Agent) -> str:
        return ", ".join(_facts(agent)["capabilities"]) or "-"

    @admin.display(description="card, as it announced it")
    def card(self, agent: Agent) -> str:
        return cells.pretty(_facts(agent)["card"])

    @admin.display(description="last card refused")
    def card_problem(self, agent: Agent) -> str:
        return _facts(agent)["card_problem"] or "-"

    @admin.display(description="circuit breaker")
    def breaker(self, agent: Agent) -> str:
        found = _facts(agent)["breaker"]
        if found["state"] == "closed":
            return "closed"
        return f"{found['state'].replace('_', '-')}: {found['because']} (until {cells.when(found['until'])})"

    @admin.display(description="reputation (90 %)")
    def reputation(self, agent: Agent) -> str:
        found = _facts(agent)["reputation"]
        return f"{found['mean']:.2f} ({found['low']:.2f}–{found['high']:.2f})"

    @admin.display(description="attempts ended")
    def ends(self, agent: Agent) -> str:
        found = _facts(agent)["reputation"]
        names = ("completed", "failed", "lost", "rejected", "declined", "excused")
        return ", ".join(f"{found[name]} {name}" for name in names if found[name]) or "-"

    @admin.display(description="lately")
    def recent(self, agent: Agent) -> str:
        found = _facts(agent)["reputation"]
        if found["success_rate"] is None:
            return "-"
        latency = found["latency_p50_s"]
        return f"{found['success_rate']:.0%} succeeded{'' if latency is None else f', half of them within {latency:.2f} s'}"

    @admin.display(description="promises kept")
    def calibration(self, agent: Agent) -> str:
        found = _facts(agent)["reputation"]
        names = {"brier": "Brier score", "eta_ratio": "time taken / promised", "price_ratio": "price charged / promised"}
        return ", ".join(f"{title} {found[name]:.2g}" for name, title in names.items() if found[name] is not None) or "-"

    # Verbs

    def fits(self, row: Agent, name: str) -> bool:
        state = _facts(row)["state"]
        if name == "reset_breaker":
            return _facts(row)["breaker"]["state"] != "closed"
        if name in ("resume", "undrain"):
            return state in (("paused",) if name == "resume" else ("draining", "drained"))
        return state != "revoked" and (name == "revoke" or state == "active" or (name == "drain" and state == "paused"))

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("agents.change_agentrecord")

    @admin.action(description="Pause: nothing new", permissions=["steer"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Agent]) -> None:
        self._steer(request, chosen, "paused", AgentBook.pause)

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Agent]) -> None:
        self._steer(request, chosen, "resumed", AgentBook.resume)

    @admin.action(description="Drain: nothing new, on its way out", permissions=["steer"])
    def drain(self, request: HttpRequest, chosen: QuerySet[Agent]) -> None:
        self._steer(request, chosen, "draining", AgentBook.drain)

    @admin.action(description="Undrain: keep it after all", permissions=["steer"])
    def undrain(self, request: HttpRequest, chosen: QuerySet[Agent]) -> None:
        self._steer(request, chosen, "kept", AgentBook.undrain)

    @admin.action(description="Close the circuit breaker", permissions=["steer"])
    def reset_breaker(self, request: HttpRequest, chosen: QuerySet[Agent]) -> None:
        self._steer(request, chosen, "closed again", AgentBook.reset_breaker)

    @admin.action(description="Revoke: out at once, its tasks go to others", permissions=["steer"])
    @confirmed("These agents will be out at once: their keys open nothing any more, and what they have in hand goes to others.")
    def revoke(self, request: HttpRequest, chosen: QuerySet[Agent]) -> None:
        self._steer(request, chosen, "revoked", AgentBook.revoke)

    def _steer(self, request: HttpRequest, chosen: QuerySet[Agent], done: str, act: Callable[[AgentBook, str], Any]) -> None:
        count = 0
        for agent in chosen:
            try:
                act(AgentBook(agent.org_id, by=actor(request), now=clock.now()), agent.subject_id)
                count += 1
            except PlatformError as error:
                self.message_user(request, f"{agent.subject_id}: {error.sentence}", messages.WARNING)
        if count:
            self.message_user(request, f"{count} {done}.", messages.SUCCESS)


class EnrolmentForm(forms.ModelForm):
    roles = forms.ModelMultipleChoiceField(Role.objects.order_by("org_id", "role_id"), required=False, help_text="of the same organization")
    hours = forms.IntegerField(
        label="token works for (hours)", min_value=1, max_value=enrolment.LIFE_MAX_SECONDS // 3600, initial=24, required=False
    )

    class Meta:
        model = Enrolment
        fields = ("org", "subject_id", "roles", "job_space_id", "name", "hours")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.errors or not self.instance._state.adding:
            return data
        wish = Invitation(
            subject_id=data["subject_id"], role_ids=tuple(role.role_id for role in data["roles"]), job_space_id=data["job_space_id"],
            name=data["name"], expires_in_s=(data["hours"] or 24) * 3600,
        )  # fmt: skip
        try:
            EnrolmentDesk(data["org"].pk, by="", now=clock.now()).check(wish)
        except Invalid as invalid:
            for problem in invalid.problems:
                field = "roles" if problem.field.startswith("role_ids") else problem.field
                self.add_error(field if field in self.fields else None, problem.message)
        data["wish"] = wish
        return data


@admin.register(Enrolment)
class EnrolmentAdmin(PageActions):
    form = EnrolmentForm
    list_display = ("enrolment_id", "org", "subject_id", "state", "created_at", "created_by", "expires_at", "key_id")
    list_filter = ("org", ("redeemed_at", admin.EmptyFieldListFilter))
    search_fields = ("enrolment_id", "subject_id", "=org__org_id")
    ordering = ("-created_at",)
    list_select_related = ("org",)
    autocomplete_fields = ("org",)
    actions = ("withdraw",)

    @admin.display(description="state")
    def state(self, row: Enrolment) -> str:
        return cells.status(enrolment.state_of(row, now=clock.now()))

    def get_fields(self, request: HttpRequest, obj: Enrolment | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("org", "subject_id", "roles", "job_space_id", "name", "hours")
        return (
            "enrolment_id", "org", "subject_id", "state", "role_ids", "job_space_id", "name", "created_at", "created_by", "expires_at",
            "redeemed_at", "withdrawn_at", "key_id",
        )  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Enrolment | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **({**kwargs, "form": forms.ModelForm} if obj else kwargs))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) if obj is None else False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Enrolment, form: Any, change: bool) -> None:
        wish = form.cleaned_data["wish"]
        made = EnrolmentDesk(form.cleaned_data["org"].pk, by=actor(request), now=clock.now()).invite(wish)
        obj.pk, obj._state.adding, obj.expires_at = made.row.pk, False, made.row.expires_at
        request.printed_token = made.printed  # type: ignore[attr-defined]  # for this response and nothing else

    def response_add(self, request: HttpRequest, obj: Enrolment, post_url_continue: Any = None) -> HttpResponse:
        context = {"title": "New enrolment", "opts": self.opts, "enrolment": obj, "printed": request.printed_token}
        return TemplateResponse(request, "admin/agents/enrolment/made.html", {**self.admin_site.each_context(request), **context})

    def fits(self, row: Enrolment, name: str) -> bool:
        return enrolment.state_of(row, now=clock.now()) == "open"

    def has_withdraw_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("agents.change_enrolment")

    @admin.action(description="Withdraw: the token opens nothing any more", permissions=["withdraw"])
    @confirmed("The tokens of these enrolments will open nothing any more.")
    def withdraw(self, request: HttpRequest, chosen: QuerySet[Enrolment]) -> None:
        for row in chosen:
            try:
                EnrolmentDesk(row.org_id, by=actor(request), now=clock.now()).withdraw(row.pk)
                self.message_user(request, f"{row.pk} withdrawn.", messages.SUCCESS)
            except PlatformError as error:
                self.message_user(request, f"{row.pk}: {error.sentence}", messages.WARNING)


@admin.register(Evidence)
class EvidenceAdmin(ReadOnlyAdmin):
    list_display = ("ended_at", "org_id", "agent", "task_key", "attempt", "outcome", "excused", "took")
    nothing_yet = "How attempts end is kept here: what reputation is made of."
    list_filter = ("outcome", "excused", OrgFilter)
    search_fields = ("=agent", "^task_key")
    search_help_text = "an agent, or how a task's key begins"
    ordering = ("-ended_at",)

    @admin.display(description="took", ordering="seconds")
    def took(self, row: Evidence) -> str:
        return cells.span(row.seconds)


def _link(org_id: str, subject_id: str) -> str:
    return cells.link("agents_agent", f"{org_id}:{subject_id}", subject_id) if subject_id else "-"


@overview.panel("Agents", "agents.view_agent")
def _figures(now: datetime) -> Iterator[overview.Figure]:
    every = Agent.objects.exclude(subject_type=Subject.Type.HUMAN)
    yield overview.Figure("known", overview.count(every.filter(is_active=True)), "agents_agent", {"is_active__exact": "1"})
    held = AgentRecord.objects.filter(revoked_at=None).exclude(mode=AgentRecord.Mode.ACTIVE)
    yield overview.Figure("paused or draining", overview.count(held), "agents_agent", {}, "waits")


def _facts(agent: Agent) -> dict[str, Any]:
    """Read once per page and agent."""
    if not hasattr(agent, "_facts"):
        agent._facts = agents_json(agent.org_id, [agent], now=clock.now())[0]
    return agent._facts


