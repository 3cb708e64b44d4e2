"""Dead letters, bulk actions and schedules for operators. What may be done goes the same ways as over the API."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask

from apps.core import admin_cells as cells
from apps.core import clock
from apps.core.admin import PageActions, ReadOnlyAdmin, actor, confirmed
from apps.core.auth import Principal
from apps.core.errors import Invalid, PlatformError
from apps.core.strict_json import parse_json
from apps.orgs.admin_filters import OrgFilter
from apps.tasks.admin.tasks import AgentFilter
from apps.tasks.models import BulkAction, DeadLetter, Schedule, ScheduleFiring, Task
from apps.tasks.operating import beat_rows, dead_letters, schedules
from apps.tasks.operating.dead_letters import AS_IT_WAS, Settled
from apps.tasks.operating.schedule_ticker import ScheduleTicker

SETTLED_AT_ONCE = 500
UPCOMING, FIRINGS = 5, 15
REASON_SHOWN = 90


# ---- dead letters -----------------------------------------------------------------------------------------


class LetterAgentFilter(AgentFilter):
    field = "agent"


class StateFilter(admin.SimpleListFilter):
    """Those that wait for somebody, unless asked otherwise."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*[(state, label) for state, label in DeadLetter.State.choices if state != DeadLetter.State.WAITING], ("all", "all")]

    def choices(self, changelist: Any) -> Any:
        first, *rest = super().choices(changelist)
        yield {**first, "display": "waits for somebody"}
        yield from rest

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value() or DeadLetter.State.WAITING.value
        return queryset if value == "all" else queryset.filter(state=value)


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ("its_task", "org_id", "its_kind", "agent", "why", "at", "retry")
    list_filter = (StateFilter, "kind", OrgFilter, LetterAgentFilter)
    search_fields = ("^task_id",)
    search_help_text = "how a task id begins"
    ordering = ("-sequence",)
    actions = ("requeue", "discard")
    list_display_links = None
    nothing_yet = "Nothing waits for you. Tasks that failed for good or ran out of time come here, to be done again or discarded."

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) and obj is None  # the task's own page tells the story

    @admin.display(description="task", ordering="task_id")
    def its_task(self, letter: DeadLetter) -> str:
        return _task_link(letter.org_id, letter.task_id)

    @admin.display(description="kind", ordering="kind")
    def its_kind(self, letter: DeadLetter) -> str:
        return format_html('<span title="{}">{}</span>', letter.get_kind_display(), letter.kind.replace("_", " "))

    @admin.display(description="done again as")
    def retry(self, letter: DeadLetter) -> str:
        return _task_link(letter.org_id, letter.retried_as) if letter.retried_as else "-"

    @admin.display(description="reason")
    def why(self, letter: DeadLetter) -> str:
        text = letter.because or letter.reason  # type: ignore[attr-defined]
        return cells.clipped(text, REASON_SHOWN)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        found = super().get_changelist_instance(request)
        found.result_list = list(found.result_list)
        # What their tasks say, in one read for the page.
        reasons = dict(Task.objects.filter(pk__in=[letter.key for letter in found.result_list]).values_list("pk", "reason"))
        for letter in found.result_list:
            letter.reason = reasons.get(letter.key, "")
        return found

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.change_task")

    @admin.action(description="Do again, as new tasks", permissions=["settle"])
    def requeue(self, request: HttpRequest, chosen: QuerySet[DeadLetter]) -> None:
        by_org: dict[str, list[DeadLetter]] = {}
        for letter in chosen[:SETTLED_AT_ONCE]:
            by_org.setdefault(letter.org_id, []).append(letter)
        for org_id, letters in by_org.items():
            who = Principal(org_id=org_id, role="operator", subject_id="", key_id="", name=actor(request))
            self._told(request, dead_letters.requeue_many(letters, AS_IT_WAS, who, now=clock.now()), "done again")

    @admin.action(description="Discard", permissions=["settle"])
    @confirmed("These stay as they ended: nobody will do them, and they leave the list of what waits.")
    def discard(self, request: HttpRequest, chosen: QuerySet[DeadLetter]) -> None:
        letters = list(chosen[:SETTLED_AT_ONCE])
        settled = dead_letters.discard_many(letters, reason="discarded in the admin", actor=actor(request), now=clock.now())
        self._told(request, settled, "discarded")

    def _told(self, request: HttpRequest, settled: list[Settled], done: str) -> None:
        for one in settled:
            if one.error is not None:
                self.message_user(request, f"{one.task_id}: {one.error.sentence}", messages.WARNING)
        if count := sum(one.error is None for one in settled):
            self.message_user(request, f"{count} {done}.", messages.SUCCESS)


def _task_link(org_id: str, task_id: str) -> str:
    return cells.link("tasks_task", f"{org_id}/{task_id}", task_id)


@admin.register(BulkAction)
class BulkActionAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "org_id", "action", "source", "status", "how_far", "changed", "skipped", "failed", "actor")
    list_filter = ("status", OrgFilter)
    ordering = ("-id",)
    nothing_yet = "No verb was given over many tasks yet. POST /api/v1/tasks/actions does it, with a preview (docs/operating.md)."

    @admin.display(description="done")
    def how_far(self, action: BulkAction) -> str:
        return f"{action.done:,} of {action.total:,}"


# ---- schedules --------------------------------------------------------------------------------------------


class ScheduleForm(forms.ModelForm):
    """Checked by the same function as the API's."""

    entry = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 10, "class": "vLargeTextField", "spellcheck": "false"}),
        initial='{\n  "task_goal": "",\n  "task_intent": "",\n  "task_priority_value": 0\n}',
        help_text="a task entry as JSON, without task_id, submission time and fixed deadlines",
    )

    class Meta:
        model = Schedule
        fields = ("org", "name", *schedules.FIELDS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["entry"] = json.dumps(self.instance.entry, indent=2, ensure_ascii=False)

    def clean_entry(self) -> dict[str, Any]:
        try:
            found = parse_json(self.cleaned_data["entry"].encode())
        except PlatformError as error:
            raise forms.ValidationError(str(error)) from None
        if not isinstance(found, dict):
            raise forms.ValidationError("must be a JSON object")
        return found

    def clean_cron(self) -> str:
        return " ".join(self.cleaned_data["cron"].split())

    def _post_clean(self) -> None:
        super()._post_clean()
        if self.errors:
            return
        now = clock.now()
        if not self.instance.pk:
            self.instance.created_at = now
        try:
            schedules.check(self.instance, now=now)
        except Invalid as error:
            for problem in error.problems:
                name = problem.field.partition(".")[0]
                where = problem.field.removeprefix("entry.")
                message = f"{where}: {problem.message}" if name == "entry" and where != "entry" else problem.message
                self.add_error(name if name in self.fields else None, message)


@admin.register(Schedule)
class ScheduleAdmin(PageActions):
    form = ScheduleForm
    list_display = ("name", "org", "when", "enabled", "next_fire_at", "overlaps", "catches_up", "fired", "last_task")
    list_filter = ("enabled", "org")
    search_fields = ("name", "description")
    ordering = ("org", "name")
    list_select_related = ("org",)
    actions = ("run_now", "pause", "resume")
    readonly_fields = ("upcoming", "history", "created_at", "created_by", "updated_at", "updated_by")
    fieldsets = (
        (None, {"fields": ("org", "name", "description", "enabled", "entry")}),
        (
            "When: one of cron, every and at",
            {"fields": ("cron", "timezone", "every_seconds", "at", "starts_at", "ends_at", "jitter_seconds")},
        ),
        ("How", {"fields": ("overlap", "catch_up", "catch_up_max", "due_after_seconds")}),
        ("What comes, and what became of it", {"fields": ("upcoming", "history", "created_at", "created_by", "updated_at", "updated_by")}),
    )  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Schedule | None = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else ("org", "name", *self.readonly_fields)

    def get_fieldsets(self, request: HttpRequest, obj: Schedule | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:-1]

    @admin.display(description="when")
    def when(self, schedule: Schedule) -> str:
        if schedule.cron:
            return f"{schedule.cron} ({schedule.timezone})"
        return f"every {cells.span(schedule.every_seconds)}" if schedule.every_seconds else f"once, {cells.when(schedule.at)}"

    @admin.display(description="overlap", ordering="overlap")
    def overlaps(self, schedule: Schedule) -> str:
        return schedule.overlap

    @admin.display(description="catch-up", ordering="catch_up")
    def catches_up(self, schedule: Schedule) -> str:
        return schedule.catch_up

    @admin.display(description="last task")
    def last_task(self, schedule: Schedule) -> str:
        return _task_link(schedule.org_id, schedule.last_task_id) if schedule.last_task_id else "-"

    @admin.display(description="next times")
    def upcoming(self, schedule: Schedule) -> str:
        times = schedules.next_times(schedule, UPCOMING, now=clock.now())
        rows = ((cells.when(time["planned"]), time["local"]) for time in times)
        return format_html_join("", "{} <small>({})</small><br>", rows) if times else "none"

    @admin.display(description="latest firings")
    def history(self, schedule: Schedule) -> str:
        rows = (
            (
                cells.when(each.planned_at),
                cells.status(each.outcome),
                _task_link(schedule.org_id, each.task_id) if each.task_id else "",
                each.because,
            )
            for each in schedule.firings.order_by("-planned_at")[:FIRINGS]
        )
        return cells.table(("planned", "outcome", "task", "why"), rows, none="none yet")

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:
        if change:
            schedules.change(obj, by=actor(request), now=clock.now())
        else:
            schedules.create(obj, "", by=actor(request), now=clock.now())

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        schedules.delete(obj, by=actor(request), now=clock.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        for schedule in queryset:
            self.delete_model(request, schedule)

    def fits(self, row: Schedule, name: str) -> bool:
        return name == "run_now" or row.enabled is (name == "pause")

    @admin.action(description="One task now, out of turn", permissions=["change"])
    def run_now(self, request: HttpRequest, chosen: QuerySet[Schedule]) -> None:
        for schedule in chosen:
            firing = ScheduleTicker().run_now(schedule, by=actor(request), now=clock.now())
            level = messages.SUCCESS if firing.outcome == ScheduleFiring.Outcome.FIRED else messages.WARNING
            self.message_user(request, f"{schedule}: {firing.outcome} {firing.task_id} {firing.because}", level)

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Schedule]) -> None:
        self._enable(request, chosen, False)

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Schedule]) -> None:
        self._enable(request, chosen, True)

    def _enable(self, request: HttpRequest, chosen: QuerySet[Schedule], enabled: bool) -> None:
        for schedule in chosen:
            try:
                schedules.set_enabled(schedule, enabled, by=actor(request), now=clock.now())
            except PlatformError as error:
                self.message_user(request, f"{schedule}: {error.sentence}", messages.WARNING)
        self.message_user(request, f"{len(chosen)} {'resumed' if enabled else 'paused'}.", messages.SUCCESS)


class BeatAdmin(PeriodicTaskAdmin):
    """Beat's own rows. Those of schedules are looked at here and changed where they come from."""

    change_form_template = "admin/change_form.html"  # theirs has a script written into the page, which pages of ours never run

    def _is_ours(self, row: PeriodicTask | None) -> bool:
        return row is not None and row.name.startswith(beat_rows.PREFIX)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not self._is_ours(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not self._is_ours(obj)


admin.site.unregister(PeriodicTask)
admin.site.register(PeriodicTask, BeatAdmin)
