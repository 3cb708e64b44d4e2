"""The admin of scripts and runs. Runs live in the task store, so these run on both databases."""

from __future__ import annotations

import pytest
from django.urls import reverse

from apps.dsl import scripts
from apps.dsl.models import PolicyRun, PolicyScript
from apps.dsl.policies import Hook
from tests.factories import NOON, make_org
from tests.integration.dsl.bombs import approve

pytestmark = [pytest.mark.django_db, pytest.mark.store]

ONE = approve("# <b>a comment</b>", "return {'accepted': True, 'reason': \"<script>\"}")
TWO = approve("return {'accepted': False}")
LIST, ADD = reverse("admin:dsl_policyscript_changelist"), reverse("admin:dsl_policyscript_add")


@pytest.fixture
def admin_client(client, db, django_user_model):
    """Without a password: hashing one takes seconds."""
    client.force_login(django_user_model.objects.create_superuser("admin"))
    return client


def register(source: str = ONE, **more) -> PolicyScript:
    given = {"org_id": "acme", "script_id": "approval/mine", "hook": "approval", "source": source, **more}
    return scripts.register(**given, by="tests", now=NOON).script


def run(**fields) -> PolicyRun:
    given = {
        "id": f"{PolicyRun.objects.count():032x}",
        "org_id": "acme",
        "task_key": "acme/t1",
        "hook": "approval",
        "script_id": "approval/mine",
        "script_version": 1,
        "script_sha256": "f" * 64,
        "input": {"task": {"goal": "<i>x</i>"}},
        "output": {"accepted": False, "reason": "too large"},
        "duration_us": 1234,
        "config_version": 2,
        "at": NOON,
    }
    return PolicyRun.objects.create(**{**given, **fields})


class TestScripts:
    def test_the_list_filters_and_searches(self, admin_client):
        register(), register(TWO, org_id="", script_id="approval/default")
        page = admin_client.get(LIST).content.decode()
        assert "approval/mine" in page
        assert "(built in)" in page
        assert "approval/mine" not in admin_client.get(f"{LIST}?origin=built_in").content.decode()
        assert "approval/mine" in admin_client.get(f"{LIST}?q=mine&status__exact=draft&hook__exact=approval").content.decode()

    def test_a_version_is_shown_in_colour_with_every_character_escaped(self, admin_client):
        script = register()
        page = admin_client.get(reverse("admin:dsl_policyscript_change", args=[script.pk])).content.decode()
        assert '<span class="policy-keyword">def</span> <span class="policy-entry">approve</span>(task):' in page
        assert "&lt;b&gt;a comment&lt;/b&gt;" in page
        assert "&lt;script&gt;" in page
        assert "<b>a comment" not in page
        assert 'name="_save"' not in page, "it is only looked at"

    def test_a_version_cannot_be_changed_or_deleted(self, admin_client):
        script = register()
        assert admin_client.post(reverse("admin:dsl_policyscript_change", args=[script.pk]), {"source": TWO}).status_code == 403
        assert admin_client.post(reverse("admin:dsl_policyscript_delete", args=[script.pk]), {"post": "yes"}).status_code == 403
        assert PolicyScript.objects.get().source == ONE

    def test_the_next_version_starts_from_the_last_text_and_is_a_draft(self, admin_client):
        make_org("acme")
        script = register()
        form = admin_client.get(ADD, {"from": script.pk}).context["adminform"].form
        assert form.initial["source"] == ONE
        assert form.initial["org_id"] == "acme"
        sent = {"org_id": "acme", "script_id": "approval/mine", "hook": "approval", "source": TWO.replace("\n", "\r\n")}
        assert admin_client.post(ADD, sent).status_code == 302
        draft = PolicyScript.objects.get(version=2)
        assert (draft.source, draft.status, draft.created_by) == (TWO, "draft", "admin admin")
        assert admin_client.post(ADD, sent).status_code == 302
        assert PolicyScript.objects.count() == 2, "the same text again is no new version"

    def test_a_bad_text_is_refused_with_its_line(self, admin_client):
        sent = {"org_id": "", "script_id": "approval/mine", "hook": "approval", "source": "def approve(task)\n  return 1"}
        errors = admin_client.post(ADD, sent).context["adminform"].form.errors
        assert "line 1: Parse error" in errors["source"][0]
        assert not PolicyScript.objects.exists()

    def test_activate_and_retire_are_actions_of_the_list(self, admin_client):
        first, second = register(), register(TWO)
        for action, script, wanted in (("activate", first, "active"), ("activate", second, "active"), ("retire", second, "retired")):
            admin_client.post(LIST, {"action": action, "_selected_action": [script.pk], "confirmed": "yes"}, follow=True)
            script.refresh_from_db()
            assert script.status == wanted
        first.refresh_from_db()
        assert first.status == "retired"


class TestRuns:
    PATH = reverse("admin:dsl_policyrun_changelist")

    def listed(self, client, query: str = "") -> str:
        response = client.get(f"{self.PATH}?{query}")
        assert response.status_code == 200
        return response.content.decode()

    def test_the_list_says_what_was_answered(self, admin_client):
        run()
        run(hook="priority", output={"priority": 7, "reason": "urgent"})
        run(output=None, error="line 3: <b>wrong</b>", task_key="acme/t2")
        run(output=None, script_id="", script_version=0, task_key="acme/t3")
        page = self.listed(admin_client)
        for words in ("refused: too large", "7: urgent", "line 3: &lt;b&gt;wrong&lt;/b&gt;", "(none)", "1.23 ms", "approval/mine@1"):
            assert words in page

    @pytest.mark.parametrize(
        ("query", "there", "gone"),
        [
            ("outcome=failed", "acme/t2", "acme/t1"),
            ("outcome=answered", "acme/t1", "acme/t2"),
            ("outcome=unasked", "acme/t3", "acme/t1"),
            ("hook__exact=priority", "acme/t4", "acme/t1"),
            ("q=acme/t2", "acme/t2", "acme/t1"),
            ("q=ACME/T2", "acme/t2", "acme/t1"),
            ("q=approval/mine", "acme/t1", "acme/t3"),
            ("o=-1", "acme/t1", "acme/t9"),
        ],
    )
    def test_filters_search_and_sorting_work(self, admin_client, query, there, gone):
        run()
        run(output=None, error="wrong", task_key="acme/t2")
        run(output=None, script_id="", task_key="acme/t3")
        run(hook="priority", task_key="acme/t4", script_id="priority/x", output={"priority": 1})
        page = self.listed(admin_client, query)
        assert there in page
        assert gone not in page

    def test_a_run_is_shown_whole_and_cannot_be_touched(self, admin_client):
        path = reverse("admin:dsl_policyrun_change", args=[run().pk])
        page = admin_client.get(path).content.decode()
        assert "&lt;i&gt;x&lt;/i&gt;" in page
        assert "too large" in page
        assert admin_client.post(path, {"error": "x"}).status_code == 403
        assert admin_client.get(reverse("admin:dsl_policyrun_add")).status_code == 403


TESTS = [
    {"name": "<b>it passes</b>", "input": {"priority": 1}, "expect": {"accepted": True}},
    {"name": "it fails", "input": {"priority": 1}, "expect": {"accepted": False}},
]


def test_a_version_shows_its_tests_as_they_run_now_and_what_changed(admin_client):
    register(TWO)
    script = register(ONE, tests=TESTS)
    page = admin_client.get(reverse("admin:dsl_policyscript_change", args=[script.pk])).content.decode()
    assert "&lt;b&gt;it passes" in page and "<b>it passes" not in page
    assert page.count("policy-test-ok") == 1 and page.count("policy-test-failed") == 1 and "expected {&quot;accepted&quot;:false}" in page
    assert '<span class="policy-went">-' in page and '<span class="policy-came">+' in page and "&lt;script&gt;" in page


def test_a_version_whose_tests_fail_is_not_activated_and_the_page_says_why(admin_client):
    script = register(ONE, tests=TESTS)
    chosen = {"action": "activate", "_selected_action": [script.pk]}
    page = admin_client.post(LIST, chosen, follow=True).content.decode()
    assert "1 of 2 tests of this version fail" in page and "it fails: expected" in page
    script.refresh_from_db()
    assert script.status == "draft"


def test_tests_are_given_in_the_form_too(admin_client):
    form = {"org_id": "", "script_id": "approval/form", "hook": "approval", "source": TWO, "tests": '[{"name": "x"}]'}
    assert "tests[0]: must be an object with name, input and expect" in admin_client.post(ADD, form).content.decode()
    admin_client.post(ADD, {**form, "tests": '[{"name": "x", "input": {}, "expect": {"accepted": false}}]'})
    assert PolicyScript.objects.get(script_id="approval/form").tests[0]["name"] == "x"


def test_backtests_are_shown_with_what_flips_and_the_order_of_the_queue(admin_client, redis):
    from apps.dsl import backtest
    from tests.integration.dsl.test_backtest import record

    make_org("acme")
    record(30, output={"accepted": True, "reason": "<i>fine</i>"})
    record(6, Hook.PRIORITY, output=lambda n: {"priority": n})
    drafts = [
        register(approve("return {'accepted': task['priority'] < 20, 'reason': '<i>' }")),
        register("def prioritize(task):\n    return {'priority': -task['priority']}\n", script_id="priority/mine", hook="priority"),
    ]
    approval, priority = (backtest.start(draft, backtest.Window(), org_id="acme", by="ann", now=NOON) for draft in drafts)
    assert "approval/mine@1" in admin_client.get(reverse("admin:dsl_backtest_changelist")).content.decode()
    page = admin_client.get(reverse("admin:dsl_backtest_change", args=[approval.pk])).content.decode()
    assert "accept -&gt; reject" in page and "acme/t29" in page and "<i>" not in page
    page = admin_client.get(reverse("admin:dsl_backtest_change", args=[priority.pk])).content.decode()
    assert "Kendall&#x27;s tau -1.0" in page or "Kendall's tau -1.0" in page
    flips = admin_client.get(reverse("admin:dsl_backtestflip_changelist"), {"backtest__id__exact": approval.pk}).content.decode()
    assert flips.count("accept -&gt; reject") >= 10
    flip = approval.flips.first()
    assert admin_client.get(reverse("admin:dsl_backtestflip_change", args=[flip.pk])).status_code == 200
