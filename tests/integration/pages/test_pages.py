"""What people see: the first page of the admin, questions before what cannot be undone, ids that lead somewhere, and errors."""

from __future__ import annotations

import re

import pytest
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.test import Client

from apps.core import overview
from apps.core.admin_cells import between, pretty, span, status
from apps.core.error_pages import WORDS
from apps.jobs.states import JobStatus
from apps.tasks.models import DeadLetter, Task
from apps.tasks.states import TaskStatus
from apps.workflows.states import ItemStatus, SessionStatus, StepStatus
from jobplatform.env import BASE_DIR
from tests.factories import NOON, make_agent, make_org, make_task
from tests.integration.pages.rows import fill

pytestmark = pytest.mark.django_db

LIST = "/admin/tasks/task/"
PAGE = {"Accept": "text/html"}


@pytest.fixture
def tasks(redis):
    make_org("acme")
    return [make_task(f"t{n}", status=each) for n, each in enumerate(("queued", "queued", "awaiting_approval"))]


class TestTheFirstPage:
    def test_it_counts_what_waits_and_leads_there(self, admin_client, tasks):
        DeadLetter.objects.create(key="acme/old", org_id="acme", task_id="old", kind="poison", sequence=1, at=NOON)
        page = admin_client.get("/admin/").text
        told = re.findall(r'<a href="([^"]+)"><b>([^<]+)</b>([^<]+)', page)
        found = {name.strip(): (number, url.replace("&amp;", "&")) for url, number, name in told}
        assert found["in the queue"] == ("2", f"{LIST}?status__exact=queued")
        assert found["wait for approval"][0] == "1" and found["ended badly, nobody looked"][0] == "1"
        for name, (_, url) in found.items():
            assert admin_client.get(url).status_code == 200, name
        rooms = [page.index(f'id="{each}"') for each in ("tasks-task", "tasks-orgqueue", "workflows-session", "webhooks-endpoint")]
        assert rooms == sorted(rooms)

    def test_who_may_see_one_room_sees_its_figures_only(self, client, django_user_model, redis):
        from django.contrib.auth.models import Permission

        user = django_user_model.objects.create_user("eve", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_session", content_type__app_label="workflows"))
        client.force_login(user)
        assert re.findall(r'jp-panel" aria-label="([^"]+)"', client.get("/admin/").text) == ["Sessions"]

    def test_counting_ends_where_nobody_needs_to_know_more(self, monkeypatch, tasks):
        monkeypatch.setattr(overview, "MANY", 2)
        assert overview.Figure("tasks", overview.count(Task.objects.all()), "tasks_task").said == "2 or more"


class TestQuestions:
    def choose(self, client, **more):
        return client.post(LIST, {"action": "cancel", "_selected_action": [task.pk for task in Task.objects.all()], **more})

    def test_what_cannot_be_undone_is_asked_about_first_with_what_was_typed(self, admin_client, tasks):
        page = self.choose(admin_client, reason="<b>flood</b>").text
        said = ("It cannot be taken back", "Cancel: 3 tasks", "Yes, cancel", *(f">acme/t{n}<" for n in range(3)))
        assert [each for each in said if each not in page] == []
        assert 'name="reason" value="&lt;b&gt;flood' in page and set(Task.objects.values_list("status", flat=True)) != {"cancelled"}
        carried = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
        posted: dict[str, list[str]] = {}
        for name, value in carried:
            posted.setdefault(name, []).append(value)
        admin_client.post(LIST, posted)
        assert set(Task.objects.values_list("status", flat=True)) == {"cancelled"}

    def test_a_question_about_a_whole_list_shows_some_and_counts_all(self, admin_client, tasks):
        fill(Task, 30)
        page = self.choose(admin_client, select_across="1").text
        assert "and 13 more" in page and 'name="select_across" value="1"' in page

    def test_the_question_is_for_those_who_may_do_it(self, client, django_user_model, tasks):
        from django.contrib.auth.models import Permission

        user = django_user_model.objects.create_user("eve", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_task"))
        client.force_login(user)
        assert "It cannot be taken back" not in self.choose(client, follow=True).text


def test_ids_lead_to_what_they_name(admin_client, redis):
    from apps.tasks.models import Assignment

    make_agent("acme", "ada/1")
    make_task("t/1")
    Assignment.objects.create(
        id="acme/t/1#1", task_key="acme/t/1", org_id="acme", attempt=1, head_agent_subject_id="ada/1", strategy="static", decision={},
        at=NOON,
    )
    page = admin_client.get("/admin/tasks/assignment/").text
    for url in re.findall(r'<td class="field-[^>]+><a href="([^"]+)"', page):
        assert admin_client.get(url).status_code == 200, url
    assert "/admin/agents/agent/acme:ada_2F1/change/" in page.replace("_3A", ":") and "/admin/tasks/task/acme_2Ft_2F1/change/" in page


def test_an_empty_list_says_where_its_rows_would_come_from_and_a_search_that_finds_nothing_how_to_go_back(admin_client, redis):
    assert "jobctl submit" in admin_client.get(LIST).text
    page = admin_client.get(f"{LIST}?q=zzz").text
    assert "jobctl submit" not in page and "Show everything" in page


def test_every_word_of_every_state_table_has_a_colour():
    style = (BASE_DIR / "apps/core/static/core/admin.css").read_text()
    words = {each.value for table in (TaskStatus, SessionStatus, StepStatus, ItemStatus, JobStatus) for each in table}
    assert [word for word in sorted(words) if not re.search(rf"\.jp-{word}[ ,]", style)] == []


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("theme", "backgrounds"), [("light", ("#ffffff", "#f8f8f8")), ("dark", ("#121212", "#212121"))])
def test_the_colours_can_be_read_on_the_admins_own_backgrounds(theme, backgrounds):
    style = (BASE_DIR / "apps/core/static/core/admin.css").read_text()
    declared = re.search(rf'html\[data-theme="{theme}"\] {{([^}}]+)}}', style)[1]
    for name, colour in re.findall(r"(--jp-\w+): (#\w{6})", declared):
        assert min(contrast(colour, background) for background in backgrounds) >= 4.5, name


class TestErrors:
    def test_a_page_that_is_not_there_says_so_to_people_and_programs_get_json(self, client):
        told = client.get("/nothing", headers=PAGE)
        assert told.status_code == 404 and WORDS[404][0] in told.text and told["X-Request-Id"] in told.text
        assert client.get("/nothing").json()["status"] == 404

    @pytest.mark.parametrize(
        ("raised", "code"), [(OperationalError("away"), 503), (PermissionDenied(), 403), (RuntimeError("<secret>"), 500)]
    )
    def test_what_goes_wrong_behind_a_page_is_told_in_words(self, admin_client, monkeypatch, raised, code):
        def broken(*_, **__):
            raise raised

        monkeypatch.setattr(overview, "shown", broken)
        admin_client.raise_request_exception = False
        told = admin_client.get("/admin/", headers=PAGE)
        assert told.status_code == code and WORDS[code][0] in told.text and "secret" not in told.text and "Traceback" not in told.text
        assert told["X-Request-Id"] in told.text

    def test_a_form_that_is_too_old_is_named(self, admin_user):
        strict = Client(enforce_csrf_checks=True)
        told = strict.post("/admin/login/", {"username": "admin", "password": "x"}, headers=PAGE)
        assert told.status_code == 403 and "too old" in told.text


def test_lengths_of_time_and_values_read_as_people_say_them():
    assert [span(each) for each in (0, 0.0421, 7.25, 42.4, 119, 300, 7100, 8000, 200_000)] == [
        "0 s", "0.042 s", "7.2 s", "42 s", "119 s", "5 min", "118 min", "2.2 h", "2.3 d",
    ]  # fmt: skip
    assert between(NOON, None) == "" and "jp-timed_out" in status("timed_out") and "timed out" in status("timed_out")
    assert pretty({}) == "-" and "&lt;i&gt;" in pretty({"a": "<i>"}) and "cut" in pretty(["x" * 30_000])


def test_the_page_of_a_row_has_the_verbs_of_its_list_and_is_shown_again_after_one(admin_client, tasks):
    page = "/admin/tasks/task/acme_2Ft0/change/"
    shown = admin_client.get(page).text
    assert '<button name="action" value="cancel">' in shown and 'name="subject_id"' in shown and 'value="delete_selected"' not in shown
    posted = {"action": "cancel", "_selected_action": ["acme/t0"], "index": "0", "page_key": "acme/t0"}
    assert f'href="{page}" autofocus>No, go back' in admin_client.post(LIST, posted).text
    assert admin_client.post(LIST, {**posted, "confirmed": "yes"})["Location"] == page
    assert Task.objects.get(pk="acme/t0").status == "cancelled"


def test_a_page_offers_the_verbs_that_make_sense_now(admin_client, tasks):
    def offered(address: str) -> list[str]:
        return re.findall(r'name="action" value="(\w+)"', admin_client.get(address).text)

    assert offered("/admin/tasks/task/acme_2Ft2/change/") == ["cancel", "reprioritize", "approve", "reject"]
    Task.objects.update(status="completed")
    assert offered("/admin/tasks/task/acme_2Ft2/change/") == []
    make_agent("acme", "ada")
    assert offered("/admin/agents/agent/acme:ada/change/") == ["pause", "drain", "revoke"]
    assert offered("/admin/tasks/orgqueue/acme/change/") == ["pause"]
