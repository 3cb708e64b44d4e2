"""Webhook endpoints and what was sent to them. Changes go through the same book as the API's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html

from apps.core import admin_cells as cells
from apps.core import clock, overview
from apps.core.admin import PageActions, ReadOnlyAdmin, actor, confirmed
from apps.core.admin_filters import words
from apps.core.errors import Invalid, PlatformError
from apps.orgs.admin_filters import OrgFilter
from apps.webhooks.book import StillAwaited, WebhookBook
from apps.webhooks.event_types import ALL, EVENTS
from apps.webhooks.models import PENDING, Attempt, Delivery, Endpoint

FIELDS = ("url", "events", "description", "enabled")
REPLAYED_AT_ONCE = 500


class EndpointForm(forms.ModelForm):
    events = forms.MultipleChoiceField(
        choices=[(ALL, "all of them"), *((event, event) for event in EVENTS)],
        required=False,
        help_text="None: it is told only of jobs that name its URL.",
        widget=forms.CheckboxSelectMultiple,
        initial=[ALL],
    )
    url = forms.CharField(label="URL", max_length=2048, widget=forms.TextInput(attrs={"class": "vLargeTextField", "spellcheck": "false"}))

    class Meta:
        model = Endpoint
        fields = ("org", *FIELDS)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if ALL in data.get("events", ()):
            data["events"] = [ALL]
        org = data.get("org") or (self.instance.org if self.instance.org_id else None)
        if not self.errors:
            book = WebhookBook(org_id=org.pk if org else "", by="", now=clock.now())
            try:
                book.check({name: data[name] for name in FIELDS}, new=False)
                book.check_url_of(Endpoint.objects.filter(pk=self.instance.pk).first(), data["url"])
            except Invalid as invalid:
                for problem in invalid.problems:
                    self.add_error(problem.field if problem.field in self.fields else None, problem.message)
        return data


@admin.register(Endpoint)
class EndpointAdmin(PageActions):
    form = EndpointForm
    list_display = ("endpoint_id", "org", "state", "where", "wants", "last_delivered_at", "description")
    list_filter = ("enabled", "org")
    search_fields = ("endpoint_id", "url", "description", "org__org_id")
    search_help_text = "endpoint, URL, description or organization"
    ordering = ("-created_at",)
    list_select_related = ("org",)
    autocomplete_fields = ("org",)
    actions = ("ping", "replay_failed", "rotate")
    shown = ("endpoint_id", "state", "deliveries", "failing_since", "last_delivered_at", "previous_until", "created_at", "created_by")

    @admin.display(description="URL", ordering="url")
    def where(self, row: Endpoint) -> str:
        return cells.clipped(row.url, 60)

    @admin.display(description="events")
    def wants(self, row: Endpoint) -> str:
        return "all" if row.events == [ALL] else cells.clipped(", ".join(row.events), 60) or "jobs that name it"

    @admin.display(description="state")
    def state(self, row: Endpoint) -> str:
        if not row.enabled:
            return format_html("{} {}", cells.status("disabled"), row.disabled_because)
        return cells.status("failing" if row.failing_since else "enabled")

    @admin.display(description="deliveries")
    def deliveries(self, row: Endpoint) -> str:
        return cells.search("webhooks_delivery", "what was sent to it", endpoint_id=row.pk)

    def get_fields(self, request: HttpRequest, obj: Endpoint | None = None) -> tuple[str, ...]:
        return ("org", *FIELDS) if obj is None else ("org", *FIELDS, *self.shown)

    def get_readonly_fields(self, request: HttpRequest, obj: Endpoint | None = None) -> tuple[str, ...]:
        return () if obj is None else ("org", *self.shown)

    def save_model(self, request: HttpRequest, obj: Endpoint, form: Any, change: bool) -> None:
        wish = {name: form.cleaned_data[name] for name in FIELDS}
        if change:
            self._book(request, obj).change(obj.pk, wish)
            return
        made, secret = self._book(request, obj).create(wish)
        obj.pk, obj._state.adding = made.pk, False
        request.secret = secret  # type: ignore[attr-defined]  # for this response and nothing else

    def delete_model(self, request: HttpRequest, obj: Endpoint) -> None:
        self._book(request, obj).delete(obj.pk)

    def get_deleted_objects(self, objs: Iterable[Endpoint], request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """Those that may not go stand among what is protected."""
        *found, protected = super().get_deleted_objects(objs, request)
        protected = list(protected)
        for row in objs:
            try:
                self._book(request, row).check_awaited(row)
            except StillAwaited as error:
                protected.append(f"{row}: {error.sentence}")
        return (*found, protected)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> None:
        for row in queryset:
            self.delete_model(request, row)

    def response_add(self, request: HttpRequest, obj: Endpoint, post_url_continue: Any = None) -> HttpResponse:
        return self._secret_page(request, Endpoint.objects.get(pk=obj.pk), request.secret, "New webhook endpoint")

    @admin.action(description="Send a ping", permissions=["change"])
    def ping(self, request: HttpRequest, chosen: QuerySet[Endpoint]) -> None:
        self._each(request, chosen, "pinged; the deliveries tell what came of it", lambda book, row: book.ping(row.pk))

    @admin.action(description="Replay what failed in the last 7 days", permissions=["change"])
    def replay_failed(self, request: HttpRequest, chosen: QuerySet[Endpoint]) -> None:
        since = clock.now() - timedelta(days=7)
        self._each(request, chosen, "replayed", lambda book, row: book.replay_since(row.pk, since, missed=False))

    @admin.action(description="Rotate the secret (of one)", permissions=["change"])
    @confirmed("A new secret will be made. For a day both sign; after that, a receiver that knows only the old one refuses what it gets.")
    def rotate(self, request: HttpRequest, chosen: QuerySet[Endpoint]) -> HttpResponse | None:
        rows = list(chosen[:2])
        if len(rows) != 1:
            self.message_user(request, "Choose one: its new secret is shown on the next page, once.", messages.ERROR)
            return None
        row, secret = self._book(request, rows[0]).rotate(rows[0].pk)
        return self._secret_page(request, row, secret, "New secret")

    def _each(self, request: HttpRequest, chosen: QuerySet[Endpoint], done: str, verb: Callable[[WebhookBook, Endpoint], Any]) -> None:
        for row in chosen:
            try:
                verb(self._book(request, row), row)
            except PlatformError as error:
                self.message_user(request, f"{row.pk}: {error.sentence}", messages.ERROR)
            else:
                self.message_user(request, f"{row.pk}: {done}.", messages.SUCCESS)

    def _book(self, request: HttpRequest, row: Endpoint) -> WebhookBook:
        return WebhookBook(org_id=row.org_id or "", by=actor(request), now=clock.now())

    def _secret_page(self, request: HttpRequest, row: Endpoint, secret: str, title: str) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "endpoint": row, "secret": secret}
        return TemplateResponse(request, "admin/webhooks/endpoint/made.html", context)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "event", "about", "state", "tries", "answered", "due", "endpoint_id", "org_id")
    list_filter = ("state", words("event", EVENTS, field="event"), OrgFilter)
    actions = ("replay",)
    nothing_yet = "Nothing was sent yet. Webhook endpoints say where to, and of which events (docs/webhooks.md)."
    search_fields = ("=endpoint_id", "=task_key", "=job_id", "=org_id")
    search_help_text = "endpoint, organization, job, or task as org/id"
    ordering = ("-id",)
    fields = ("id", "org_id", "endpoint_id", "event", "about", "state", "tries", "due", "created_at", "ended_at", "body", "log")

    @admin.display(description="task or job")
    def about(self, row: Delivery) -> str:
        if row.task_key:
            return cells.link("tasks_task", row.task_key)
        return cells.link("jobs_job", row.job_id)

    @admin.display(description="last answer")
    def answered(self, row: Delivery) -> str:
        return str(row.last_status or "") if not row.last_error else cells.clipped(row.last_error, 40)

    @admin.display(description="next try")
    def due(self, row: Delivery) -> str:
        return cells.when(row.due_at) if row.state == PENDING else "-"

    @admin.display(description="every try")
    def log(self, row: Delivery) -> str:
        tries = Attempt.objects.filter(delivery_id=row.pk).order_by("-number")[:100]
        rows = (
            (each.number, cells.when(each.at), each.status or "-", cells.span(each.duration_ms / 1000), f"{each.error} {each.excerpt}")
            for each in tries
        )
        return cells.table(("try", "at", "status", "took", "said"), rows, none="not tried yet")

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("webhooks.change_endpoint")

    @admin.action(description="Send again, from the beginning of the schedule", permissions=["replay"])
    def replay(self, request: HttpRequest, chosen: QuerySet[Delivery]) -> None:
        done = 0
        for row in chosen[:REPLAYED_AT_ONCE]:
            try:
                WebhookBook(org_id=row.org_id, by=actor(request), now=clock.now()).replay(row.endpoint_id, row.pk)
                done += 1
            except PlatformError as error:
                self.message_user(request, f"{row}: {error.sentence}", messages.WARNING)
        if done:
            self.message_user(request, f"{done} to be sent again.", messages.SUCCESS)


cells.leads("endpoint_id", lambda row: cells.link("webhooks_endpoint", row.endpoint_id), title="endpoint")


@overview.panel("Webhooks", "webhooks.view_endpoint")
def _figures(now: datetime) -> Iterator[overview.Figure]:
    endpoints = Endpoint.objects.filter(enabled=True)
    yield overview.Figure("endpoints", overview.count(endpoints), "webhooks_endpoint", {"enabled__exact": "1"})
    failing = overview.count(endpoints.exclude(failing_since=None))
    yield overview.Figure("failing", failing, "webhooks_endpoint", {"failing_since__isnull": "0"}, "bad")
    disabled = overview.count(Endpoint.objects.filter(enabled=False))
    yield overview.Figure("disabled", disabled, "webhooks_endpoint", {"enabled__exact": "0"}, "waits")
