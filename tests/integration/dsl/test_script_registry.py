"""Scripts are kept as immutable versions; one of them may be active."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from apps.core.errors import Invalid, TooLarge, Unavailable
from apps.dsl import engine as engines
from apps.dsl import scripts
from apps.dsl.book import ScriptBook
from apps.dsl.engine import Engine
from apps.dsl.models import PolicyScript
from jobplatform.env import BASE_DIR
from tests.factories import NOON
from tests.integration.dsl.bombs import BOMBS, approve
from tests.threads import at_once

ONE, TWO = approve("return {'accepted': True}"), approve("return {'accepted': False}")
Status = PolicyScript.Status


def register(source: str = ONE, *, org_id: str = "acme", script_id: str = "mine", hook: str = "approval", activate: bool = False):
    return scripts.register(org_id=org_id, script_id=script_id, hook=hook, source=source, by="tests", now=NOON, activate=activate)


def statuses(script_id: str = "mine") -> dict[int, str]:
    return dict(PolicyScript.objects.filter(script_id=script_id).values_list("version", "status"))


@pytest.mark.django_db
class TestVersions:
    def test_a_new_text_is_the_next_version(self):
        first, second = register(ONE), register(TWO)
        assert [(r.script.id, r.script.version, r.created) for r in (first, second)] == [("acme/mine@1", 1, True), ("acme/mine@2", 2, True)]
        assert first.script.sha256 == engines.sha256(ONE)
        assert statuses() == {1: Status.DRAFT, 2: Status.DRAFT}

    def test_the_same_text_is_the_same_version(self):
        register(ONE), register(TWO)
        again = register(ONE)
        assert (again.script.version, again.created) == (1, False)

    def test_orgs_count_for_themselves(self):
        register(ONE), register(TWO)
        assert register(ONE, org_id="other").script.id == "other/mine@1"

    def test_one_version_is_active_at_most(self):
        register(ONE, activate=True), register(TWO, activate=True)
        assert statuses() == {1: Status.RETIRED, 2: Status.ACTIVE}
        scripts.activate(org_id="acme", script_id="mine", version=1, by="tests", now=NOON)
        assert statuses() == {1: Status.ACTIVE, 2: Status.RETIRED}
        scripts.retire(org_id="acme", script_id="mine", version=1, by="tests", now=NOON)
        assert statuses() == {1: Status.RETIRED, 2: Status.RETIRED}

    def test_another_orgs_version_cannot_be_activated(self):
        register(ONE)
        with pytest.raises(scripts.UnknownScript):
            scripts.activate(org_id="other", script_id="mine", version=1, by="tests", now=NOON)

    def test_a_script_keeps_its_hook(self):
        register(ONE)
        with pytest.raises(scripts.OtherHook):
            register("def prioritize(task): return {'priority': 1}", hook="priority")


@pytest.mark.django_db
class TestRefusals:
    @pytest.mark.parametrize(
        ("source", "code", "words"),
        [
            ("def approve(task)\n  return 1", "syntax", "line 1: Parse error"),
            ("def approve(task):\n  return x", "syntax", "line 2: Variable `x` not found"),
            ("load('a', 'b')\n" + ONE, "syntax", "line 1"),
            ("def other(task): return 1", "no_entry", "has no function approve"),
            ("", "empty", "must be the text"),
            ("   \n", "empty", "must be the text"),
            (ONE + "\x00", "bad_text", "not text"),
            (ONE + "\ud800", "bad_text", "not text"),
            (BOMBS["a deep list literal"][0], "limits", "nested too deeply"),
        ],
    )
    def test_a_script_that_cannot_work_is_refused_and_not_kept(self, source, code, words):
        with pytest.raises(Invalid) as raised:
            register(source)
        (problem,) = raised.value.problems
        assert (problem.field, problem.code) == ("source", code)
        assert words in problem.message
        assert not PolicyScript.objects.exists()

    @pytest.mark.parametrize(
        "script_id", ["", "x" * 121, "../x", "a//b", "/a", "a/", "a b", "a\n", "a%00", "é", "*", "a/activate", "a/b/c/d/e"]
    )
    def test_a_bad_script_id_is_refused(self, script_id):
        with pytest.raises(Invalid) as raised:
            register(script_id=script_id)
        assert [problem.field for problem in raised.value.problems] == ["script_id"]

    def test_every_problem_is_listed(self):
        with pytest.raises(Invalid) as raised:
            register("", script_id="a b", hook="nonsense")
        assert [problem.field for problem in raised.value.problems] == ["script_id", "hook", "source"]

    def test_a_script_larger_than_256_kb_is_refused_and_one_just_below_is_kept(self):
        filler = "# é\n" * ((256 * 1024 - len(ONE)) // 5)
        assert register(ONE + filler).created
        with pytest.raises(TooLarge):
            register(ONE + filler + "# too much\n")

    def test_without_a_sandbox_nothing_is_registered(self, monkeypatch):
        monkeypatch.setattr(engines, "_engine", Engine(processes=1))
        monkeypatch.setattr("apps.dsl.sandbox._command", lambda: ["/nonexistent"])
        with pytest.raises(Unavailable):
            register()


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_fifty_registrations_of_one_text_make_one_version(self):
        registered = at_once(50, lambda _: register())
        assert {r.script.id for r in registered} == {"acme/mine@1"}
        assert [r.created for r in registered].count(True) == 1

    def test_registrations_of_different_texts_number_themselves(self):
        registered = at_once(8, lambda n: register(approve(f"return {n}")))
        assert sorted(r.script.version for r in registered) == list(range(1, 9))

    def test_activations_of_all_versions_at_once_leave_one_active(self):
        for number in range(6):
            register(approve(f"return {number}"))
        at_once(6, lambda n: scripts.activate(org_id="acme", script_id="mine", version=n + 1, by="tests", now=NOON))
        assert list(statuses().values()).count(Status.ACTIVE) == 1


@pytest.mark.django_db
class TestBuiltIns:
    def test_every_file_becomes_an_active_version_however_often_it_is_loaded(self):
        directory = BASE_DIR / "dsl_scripts"
        first = scripts.load_built_in(directory, now=NOON)
        second = scripts.load_built_in(directory, now=NOON)
        assert {"approval/default", "approval/files", "priority/files"} <= {r.script.script_id for r in first}
        assert all(r.created for r in first)
        assert not any(r.created for r in second)
        assert set(PolicyScript.objects.values_list("status", "org_id", "version")) == {(Status.ACTIVE, "", 1)}

    def test_an_edited_file_is_the_next_version_and_going_back_is_the_first_again(self, tmp_path):
        shutil.copytree(BASE_DIR / "dsl_scripts", tmp_path, dirs_exist_ok=True)
        file = tmp_path / "approval" / "default.star"
        original = file.read_text()
        for text in (original, original + "\n# another thought\n", original):
            file.write_text(text)
            scripts.load_built_in(tmp_path, now=NOON)
        assert statuses("approval/default") == {1: Status.ACTIVE, 2: Status.RETIRED}

    def test_a_broken_file_is_named(self, tmp_path):
        (tmp_path / "approval").mkdir()
        (tmp_path / "approval" / "broken.star").write_text("def approve(task)")
        with pytest.raises(Invalid, match="approval/broken.star"):
            scripts.load_built_in(tmp_path, now=NOON)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.django_db
class TestTheBook:
    def found(self, book: ScriptBook, org_id: str, script_id: str = "mine") -> str | None:
        script = book.find_many([(org_id, script_id)])[org_id, script_id]
        return script.id if script else None

    def test_an_orgs_own_script_goes_before_the_built_in_one(self):
        register(ONE, org_id="", activate=True), register(TWO, activate=True)
        book = ScriptBook()
        assert self.found(book, "acme") == "acme/mine@1"
        assert self.found(book, "other") == "/mine@1"

    def test_nobody_gets_another_orgs_script(self):
        register(ONE, activate=True)
        assert self.found(ScriptBook(), "other") is None

    def test_drafts_and_retired_versions_do_not_answer(self):
        register(ONE)
        assert self.found(ScriptBook(), "acme") is None
        scripts.activate(org_id="acme", script_id="mine", version=1, by="tests", now=NOON)
        assert self.found(ScriptBook(), "acme") == "acme/mine@1"
        scripts.retire(org_id="acme", script_id="mine", version=1, by="tests", now=NOON)
        assert self.found(ScriptBook(), "acme") is None

    def test_a_change_elsewhere_is_noticed_after_a_second_and_costs_nothing_before(self, django_assert_num_queries):
        register(ONE, activate=True)
        clock = Clock()
        book = ScriptBook(clock)
        assert self.found(book, "acme") == "acme/mine@1"
        register(TWO, activate=True)
        clock.now += 0.9
        with django_assert_num_queries(0):
            assert self.found(book, "acme") == "acme/mine@1"
        clock.now += 0.2
        assert self.found(book, "acme") == "acme/mine@2"
        clock.now += 1.1
        with django_assert_num_queries(1):  # the text itself is not read again
            assert self.found(book, "acme") == "acme/mine@2"

    def test_a_thousand_names_cost_two_queries(self, django_assert_num_queries):
        register(ONE, activate=True)
        with django_assert_num_queries(2):
            found = ScriptBook().find_many([("acme", "mine"), *(("acme", f"none-{n}") for n in range(1000))])
        assert len([script for script in found.values() if script]) == 1


def test_time_of_making_is_an_argument(db):
    later = NOON + timedelta(days=1)
    kept = scripts.register(org_id="acme", script_id="mine", hook="approval", source=ONE, by="tests", now=later)
    assert kept.script.created_at == later


@pytest.mark.django_db(transaction=True)
def test_several_processes_may_load_the_built_ins_at_the_same_moment():
    loaded = at_once(4, lambda _: scripts.load_built_in(BASE_DIR / "dsl_scripts", now=NOON))
    assert sum(r.created for batch in loaded for r in batch) == len(loaded[0])
    assert set(PolicyScript.objects.values_list("status", "version")) == {(Status.ACTIVE, 1)}
