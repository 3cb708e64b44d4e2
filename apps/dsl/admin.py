"""Policy scripts and their runs, for operators. Versions and runs are only looked at; a new text is a new version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe

from apps.core import admin_cells as cells
from apps.core import clock, overview
from apps.core.admin import PageActions, ReadOnlyAdmin, actor, confirmed
from apps.core.admin_filters import words
from apps.core.errors import Invalid, PlatformError
from apps.dsl import admin_backtests, script_tests, scripts
from apps.dsl.coloured import coloured, coloured_diff
from apps.dsl.differing import text_diff
from apps.dsl.models import PolicyRun, PolicyScript
from apps.dsl.policies import POLICIES, Hook
from apps.orgs.models import Org

__all__ = ["PolicyRunAdmin", "PolicyScriptAdmin", "admin_backtests"]

NEWEST = 500


class NewVersionForm(forms.ModelForm):
    """A text for a script, kept as a draft by the same rules as over the API."""

    org_id = forms.ModelChoiceField(
        Org.objects.order_by("org_id"), to_field_name="org_id", required=False, label="Org", empty_label="(built in: every org)"
    )
    source = forms.CharField(
        strip=False,
        widget=forms.Textarea(attrs={"rows": 30, "cols": 110, "spellcheck": "false", "class": "policy-editor"}),
        help_text="Starlark. Saving keeps it as a draft; activate it in the list.",
    )
    tests = forms.JSONField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 12, "cols": 110, "spellcheck": "false", "class": "policy-editor"}),
        help_text='Its own tests, run before it is activated: [{"name": …, "input": {"task": {…}}, "expect": {"accepted": true}}, …]',
    )
    by = ""

    class Meta:
        model = PolicyScript
        fields = ("org_id", "script_id", "hook", "source", "tests")

    def clean_org_id(self) -> str:
        org = self.cleaned_data["org_id"]
        return org.org_id if org else ""

    def clean_source(self) -> str:
        # Browsers send CRLF; the same text must be the same version from wherever it comes.
        return self.cleaned_data["source"].replace("\r\n", "\n")

    def clean_tests(self) -> list[dict[str, Any]]:
        tests = self.cleaned_data["tests"] or []
        if wrong := script_tests.problems(tests):
            raise forms.ValidationError([f"{problem.field}: {problem.message}" for problem in wrong])
        return tests

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.errors:
            given = {name: cleaned[name] for name in self.Meta.fields}
            try:
                self.registered = scripts.register(**given, by=self.by, now=clock.now())
            except Invalid as error:
                for problem in error.problems:
                    self.add_error(problem.field, problem.message)
            except PlatformError as error:
                raise forms.ValidationError(error.sentence) from error
        return cleaned


class OriginFilter(admin.SimpleListFilter):
    title, parameter_name = "origin", "origin"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("built_in", "built in"), ("orgs", "of an org")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PolicyScript]) -> QuerySet[PolicyScript]:
        if self.value() == "built_in":
            return queryset.filter(org_id="")
        return queryset.exclude(org_id="") if self.value() == "orgs" else queryset


@admin.register(PolicyScript)
class PolicyScriptAdmin(PageActions):
    form = NewVersionForm
    list_display = ("script_id", "org", "version", "hook", "state", "hash", "created_at", "created_by")
    list_filter = ("hook", "status", OriginFilter)
    search_fields = ("script_id", "org_id", "created_by", "sha256")
    ordering = ("script_id", "org_id", "-version")
    actions = ("activate", "retire")
    list_per_page = 50
    fields = ("script_id", "org", "version", "hook", "question", "state", "sha256", "created_at", "created_by", "text", "own_tests",
              "changed", "next_version")

    class Media:
        css = {"all": ["dsl/policy.css"]}

    def has_change_permission(self, request: HttpRequest, obj: PolicyScript | None = None) -> bool:
        # A version never changes; what may change is which one is active, and that is an action of the list.
        return obj is None and super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: PolicyScript | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[PolicyScript]:
        found = super().get_queryset(request)
        return found if request.resolver_match and "object_id" in request.resolver_match.kwargs else found.defer("source")

    def get_fields(self, request: HttpRequest, obj: PolicyScript | None = None) -> tuple[str, ...]:
        return self.fields if obj else NewVersionForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: PolicyScript | None = None) -> tuple[str, ...]:
        return self.fields if obj else ()

    def get_form(self, request: HttpRequest, obj: PolicyScript | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.by = actor(request)
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """`?from=<version>` starts from the text of that version."""
        start = PolicyScript.objects.filter(pk=request.GET.get("from", "")).first()
        return {name: getattr(start, name) for name in NewVersionForm.Meta.fields} if start else {}

    def save_form(self, request: HttpRequest, form: NewVersionForm, change: bool) -> PolicyScript:
        if not form.registered.created:
            messages.info(request, f"That text is there already: it is version {form.registered.script.version}.")
        return form.registered.script

    def save_model(self, request: HttpRequest, obj: PolicyScript, form: Any, change: bool) -> None:
        """It was kept when it was checked."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing hangs on a script."""

    def fits(self, row: PolicyScript, name: str) -> bool:
        return (row.status == PolicyScript.Status.ACTIVE) is (name == "retire")

    @admin.action(description="Activate (the one version of a script that answers)", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[PolicyScript]) -> None:
        self._move(request, queryset, scripts.activate, "active")

    @admin.action(description="Retire (answers no more)", permissions=["change"])
    @confirmed("These versions will answer no more. An org that names one of them goes on as with a policy that fails.")
    def retire(self, request: HttpRequest, queryset: QuerySet[PolicyScript]) -> None:
        self._move(request, queryset, scripts.retire, "retired")

    def _move(self, request: HttpRequest, queryset: QuerySet[PolicyScript], move: Any, state: str) -> None:
        count = 0
        for script in queryset:
            names = {"org_id": script.org_id, "script_id": script.script_id, "version": script.version}
            try:
                moved = move(**names, by=actor(request), now=clock.now())
            except Invalid as error:
                wrong = "; ".join(problem.message for problem in error.problems)
                messages.error(request, f"{script.script_id} version {script.version}: {error.sentence} {wrong}")
            except PlatformError as error:
                messages.error(request, f"{script.script_id} version {script.version}: {error.sentence}")
            else:
                self.log_change(request, moved, f"is {state} now")
                count += 1
        if count:
            messages.success(request, f"{count} now {state}.")

    @admin.display(description="org", ordering="org_id")
    def org(self, script: PolicyScript) -> str:
        return script.org_id or "(built in)"

    @admin.display(description="status", ordering="status")
    def state(self, script: PolicyScript) -> str:
        return cells.status(script.status)

    @admin.display(description="SHA-256")
    def hash(self, script: PolicyScript) -> str:
        return script.sha256[:12]

    @admin.display(description="asked for")
    def question(self, script: PolicyScript) -> str:
        policy = POLICIES[Hook(script.hook)]
        return f"{policy.function}({', '.join(policy.arguments)}); if it fails: {policy.on_error}"

    @admin.display(description="source")
    def text(self, script: PolicyScript) -> SafeString:
        return coloured(script.source)

    @admin.display(description="tests")
    def own_tests(self, script: PolicyScript) -> SafeString | str:
        if not script.tests:
            return "none"
        lines = format_html_join(
            "",
            '<tr class="policy-test-{}"><td>{}</td><td>{}</td><td><code>{}</code></td><td>{}</td></tr>',
            (
                (
                    "ok" if outcome.passed else "failed",
                    "passes" if outcome.passed else "fails",
                    outcome.name,
                    json.dumps(outcome.expected, ensure_ascii=False),
                    "" if outcome.passed else outcome.sentence,
                )
                for outcome in scripts.test(script)
            ),
        )
        head = "<tr><th>now</th><th>test</th><th>expects</th><th></th></tr>"
        return format_html('<table class="policy-tests"><thead>{}</thead><tbody>{}</tbody></table>', mark_safe(head), lines)  # noqa: S308

    @admin.display(description="changed")
    def changed(self, script: PolicyScript) -> SafeString | str:
        versions = PolicyScript.objects.filter(org_id=script.org_id, script_id=script.script_id)
        before = versions.filter(version__lt=script.version).order_by("-version").first()
        if before is None:
            return "the first version"
        lines = text_diff(before, script)
        return coloured_diff(lines) if lines else f"the text of version {before.version}, with other tests"

    @admin.display(description="next version")
    def next_version(self, script: PolicyScript) -> SafeString:
        path = reverse("admin:dsl_policyscript_add")
        return format_html('<a href="{}?{}">Write the next version from this text</a>', path, urlencode({"from": script.pk}))


class OutcomeFilter(admin.SimpleListFilter):
    title, parameter_name = "outcome", "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("answered", "answered"), ("failed", "failed"), ("unasked", "no script configured")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PolicyRun]) -> QuerySet[PolicyRun]:
        if self.value() == "answered":
            return queryset.filter(error="").exclude(script_id="")
        if self.value() == "failed":
            return queryset.exclude(error="")
        return queryset.filter(error="", script_id="") if self.value() == "unasked" else queryset


@admin.register(PolicyRun)
class PolicyRunAdmin(ReadOnlyAdmin):
    """Works the same with runs on SQLite and on MongoDB: filters and sorts are on plain fields, JSON is only shown."""

    list_display = ("at", "task_key", "hook", "script", "place", "said", "milliseconds")
    list_filter = ("hook", OutcomeFilter, words("answered", ("local", "remote"), field="place"))
    search_fields = ("task_key", "script_id", "org_id")
    search_help_text = "part of a task's key (org/task), of a script's id, or of an organization"
    ordering = ("-id",)
    nothing_yet = "No policy was asked yet. Every answer is kept here, with what was asked."
    fields = ("at", "org_id", "task_key", "hook", "script", "sha256", "said", "milliseconds", "where", "config_version", "input", "output")

    class Media:
        css = {"all": ["dsl/policy.css"]}

    @admin.display(description="script", ordering="script_id")
    def script(self, run: PolicyRun) -> str:
        return f"{run.script_id}@{run.script_version}" if run.script_version else run.script_id or "(none)"

    @admin.display(description="script SHA-256")
    def sha256(self, run: PolicyRun) -> str:
        return run.script_sha256 or "-"

    @admin.display(description="answer")
    def said(self, run: PolicyRun) -> str | SafeString:
        if run.error:
            return format_html('<span class="policy-error">{}</span>', run.error)
        output = run.output or {}
        reason = output.get("reason") or ""
        if run.hook == Hook.APPROVAL and output:
            verdict = {True: "accepted", False: "refused"}.get(output.get("accepted"), "held for a person")
            return f"{verdict}: {reason}" if reason else verdict
        if run.hook == Hook.PRIORITY and output:
            return f"{output.get('priority')}: {reason}" if reason else str(output.get("priority"))
        return json.dumps(output, ensure_ascii=False)[:200] if output else "-"

    @admin.display(description="took", ordering="duration_us")
    def milliseconds(self, run: PolicyRun) -> str:
        return f"{run.duration_us / 1000:.2f} ms"

    @admin.display(description="answered")
    def where(self, run: PolicyRun) -> str:
        if run.place == "local":
            return "here, in the sandbox"
        return f"by the org's service, with HTTP status {run.http_status}" if run.http_status else "by the org's service: no answer came"


@overview.panel("Policies", "dsl.view_policyrun")
def _figures(now: datetime) -> Iterator[overview.Figure]:
    # Ids are made of the time, so the newest are found without an index of their own.
    newest = list(PolicyRun.objects.order_by("-pk").values_list("at", "error")[:NEWEST])
    failed = sum(bool(error) and at > now - timedelta(hours=1) for at, error in newest)
    active = overview.count(PolicyScript.objects.filter(status=PolicyScript.Status.ACTIVE))
    yield overview.Figure("active scripts", active, "dsl_policyscript", {"status__exact": "active"})
    name = "answers that failed within the hour"
    yield overview.Figure(name, failed, "dsl_policyrun", {"outcome": "failed"}, "bad")
