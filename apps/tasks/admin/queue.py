"""The queues of all orgs, for operators: what waits where, and pause and resume."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from apps.core import admin_cells as cells
from apps.core import clock
from apps.core.admin import ReadOnlyAdmin, actor
from apps.core.errors import PlatformError, Unavailable
from apps.orgs.config_keys import SENTENCE
from apps.tasks import board, pausing, reordering
from apps.tasks.models_queue import OrgQueue


class ReasonForm(ActionForm):
    reason = forms.CharField(required=False, max_length=SENTENCE.most, label="Reason", help_text="for a pause; shown to whoever asks why")


@admin.register(OrgQueue)
class OrgQueueAdmin(ReadOnlyAdmin):
    list_display = ("org_id", "paused", "waiting", "delayed", "parked", "in_flight", "oldest", "per_minute", "weight")
    search_fields = ("^org_id", "name")
    ordering = ("org_id",)
    actions = ("pause", "resume")
    action_form = ReasonForm
    fieldsets = (
        (None, {"fields": (*list_display, "reordering")}),
        ("Job spaces", {"fields": ("lanes",)}),
        ("Concurrency keys", {"fields": ("keys",)}),
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The page's queues, looked at together."""
        found = super().get_changelist_instance(request)
        found.result_list = list(found.result_list)
        with suppress(Unavailable):
            seen = board.boards([org.pk for org in found.result_list], now=clock.now())
            for org in found.result_list:
                org.board = seen[org.pk]
        return found

    def _board(self, org: OrgQueue) -> dict[str, Any]:
        """Read once a page for each org; empty while Redis is away."""
        if not hasattr(org, "board"):
            try:
                org.board = board.board(org.pk, now=clock.now())
            except Unavailable:
                org.board = {}
        return org.board

    @admin.display(description="paused")
    def paused(self, org: OrgQueue) -> str:
        found = self._board(org).get("paused")
        if not found:
            return "-"
        return format_html("<strong>{}</strong><br>since {} by {}", found["reason"], cells.when(found["since"]), found["by"])

    @admin.display(description="waiting")
    def waiting(self, org: OrgQueue) -> Any:
        return self._board(org).get("waiting", "?")

    @admin.display(description="delayed")
    def delayed(self, org: OrgQueue) -> Any:
        return self._board(org).get("delayed", "?")

    @admin.display(description="parked by key")
    def parked(self, org: OrgQueue) -> Any:
        return self._board(org).get("parked", "?")

    @admin.display(description="in flight")
    def in_flight(self, org: OrgQueue) -> str:
        found = self._board(org)
        most = found.get("max_inflight")
        return f"{found.get('in_flight', '?')}" + (f" of {most}" if most else "")

    @admin.display(description="oldest waits")
    def oldest(self, org: OrgQueue) -> str:
        seconds = self._board(org).get("oldest_wait_s")
        return "-" if seconds is None else cells.span(seconds)

    @admin.display(description="a minute")
    def per_minute(self, org: OrgQueue) -> Any:
        return self._board(org).get("per_minute", "?")

    @admin.display(description="weight")
    def weight(self, org: OrgQueue) -> Any:
        return self._board(org).get("fair_share_weight", "?")

    @admin.display(description="priority script")
    def reordering(self, org: OrgQueue) -> str:
        found = reordering.progress(org.pk)
        if not found:
            return "has not changed"
        state = "asking again" if found["running"] else "all waiting tasks follow it"
        return f"{found['script'] or 'none'}: {state}; {found['looked_at']} looked at, {found['changed']} changed"

    @admin.display(description="")
    def lanes(self, org: OrgQueue) -> str:
        rows = (
            (
                lane["job_space_id"] or "(none)", lane["waiting"], lane["per_minute"], lane["next_task_id"] or "-",
                "-" if lane["next_wait_s"] is None else cells.span(lane["next_wait_s"]), "paused" if lane["paused"] else "",
            )
            for lane in self._board(org).get("lanes", [])
        )  # fmt: skip
        return cells.table(("job space", "waiting", "a minute", "next", "waits", ""), rows)

    @admin.display(description="")
    def keys(self, org: OrgQueue) -> str:
        return cells.table(("key", "parked"), ((key["key"], key["parked"]) for key in self._board(org).get("keys", [])))

    def fits(self, row: OrgQueue, name: str) -> bool:
        return bool(self._board(row).get("paused")) is (name == "resume")

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orgs.change_org")

    @admin.action(description="Pause: give nothing to agents for now", permissions=["steer"])
    def pause(self, request: HttpRequest, chosen: QuerySet[OrgQueue]) -> None:
        reason = request.POST.get("reason", "").strip()
        if reason and (wrong := SENTENCE.problem(reason)):
            self.message_user(request, f"The reason {wrong}.", messages.ERROR)
            return
        self._each(request, chosen, "paused", lambda org_id, by, now: pausing.pause(org_id, reason=reason, by=by, now=now))

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: HttpRequest, chosen: QuerySet[OrgQueue]) -> None:
        reason = request.POST.get("reason", "").strip()[: SENTENCE.most]
        self._each(request, chosen, "resumed", lambda org_id, by, now: pausing.resume(org_id, reason=reason, by=by, now=now))

    def _each(self, request: HttpRequest, chosen: QuerySet[OrgQueue], done: str, act: Any) -> None:
        count, now = 0, clock.now()
        for org_id in chosen.values_list("pk", flat=True):
            try:
                act(org_id, actor(request), now)
                count += 1
            except PlatformError as error:
                self.message_user(request, f"{org_id}: {error.sentence}", messages.WARNING)
        if count:
            self.message_user(request, f"{count} {done}.", messages.SUCCESS)
