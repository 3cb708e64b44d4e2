"""What the documents of an org promise, and ContextInfo over them, on every database they may live in."""

from __future__ import annotations

import json
from datetime import date, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.core.errors import Invalid
from apps.roles.filters import BadFilter
from apps.workflows.context import documents as module
from apps.workflows.context.context import SUBMITTED, ContextStore
from apps.workflows.context.context_info import ContextInfo
from apps.workflows.context.documents import CollectionFull, Documents, Draft, NoSuchDocument
from apps.workflows.models_context import ContextDocument, ContextVector
from tests.factories import NOON, make_agent, make_org

pytestmark = [pytest.mark.store, pytest.mark.django_db]


@pytest.fixture
def acme() -> Documents:
    return Documents("acme")


def put(documents: Documents, key: str, text: str = "", collection: str = "notes", **value):
    return documents.put(collection, key, value, text=text, by="tests", now=NOON)


def seed(documents: Documents) -> None:
    put(documents, "n1", "The boiler in the cellar leaks", team="blue")
    put(documents, "n2", "Quarterly sales in Europe grew", team="red")
    put(documents, "n3", "A leaking boiler was repaired", team="red")
    put(documents, "n4", team="blue")


def test_a_document_is_made_replaced_and_deleted(acme):
    made, new = put(acme, "n1", "text", a=[1, None, {"b": 2**60}])
    assert (new, made.value, made.text) == (True, {"a": [1, None, {"b": 2**60}]}, "text")
    later = NOON + timedelta(hours=1)
    changed, new = acme.put("notes", "n1", {}, by="sam", now=later)
    assert (new, changed.value, changed.text, changed.updated_by) == (False, {}, "", "sam")
    assert (changed.created_at, changed.updated_at) == (NOON, later)
    acme.delete("notes", "n1")
    for gone in (acme.get, acme.delete):
        with pytest.raises(NoSuchDocument):
            gone("notes", "n1")
    assert (ContextDocument.objects.count(), ContextVector.objects.count()) == (0, 0)


def test_search_finds_what_shares_words_nearest_first(acme):
    seed(acme)
    found = acme.search("notes", "leaking boilers", limit=3)
    assert [hit.document.key for hit in found] == ["n3", "n1", "n2"]
    assert found[0].score > found[1].score > found[2].score
    assert acme.search("notes", "boiler", limit=1, filter={"value.team": "blue"})[0].document.key == "n1"
    assert acme.search("notes", "", limit=3) == [] == acme.search("elsewhere", "boiler")


def test_a_document_found_by_its_own_vector_and_by_a_new_text_not_by_the_old(acme):
    vector = [0.0] * 384
    vector[7] = 2.0
    acme.put("notes", "own", {}, vector=vector, by="tests", now=NOON)
    put(acme, "n1", "zebra")
    assert acme.search("notes", vector)[0].document.key == "own"
    put(acme, "n1", "giraffe")
    assert acme.search("notes", "giraffe", limit=1)[0].score > 0.99
    put(acme, "n1")
    assert [hit.document.key for hit in acme.search("notes", "giraffe")] == ["own"]


def test_a_filter_reaches_past_the_nearest(acme, monkeypatch):
    acme.put_many(
        "notes", [Draft(key=f"k{n:03}", value={"last": n == 59}, text="boiler " * (60 - n) + "pump") for n in range(60)], by="t", now=NOON
    )
    assert [hit.document.key for hit in acme.search("notes", "boiler", limit=1, filter={"value.last": True})] == ["k059"]


def test_vectors_are_made_again(acme):
    seed(acme)
    ContextVector.objects.all().delete()
    assert acme.search("notes", "boiler") == []
    assert acme.reindex("notes") == 3
    assert len(acme.search("notes", "boiler")) == 3
    ContextVector.objects.all().delete()
    make_org("acme")
    said = StringIO()
    call_command("reindex_context", stdout=said)
    assert (said.getvalue(), len(acme.search("notes", "boiler"))) == ("acme/notes: 3 vectors\n", 3)
    with pytest.raises(CommandError):
        call_command("reindex_context", org="nowhere")


def test_pages_hold_all_once_in_the_order_of_keys(acme):
    seed(acme)
    keys, after = [], ""
    while after is not None:
        page = acme.list("notes", after=after, limit=3)
        keys += [document.key for document in page.documents]
        after = page.following
    assert keys == ["n1", "n2", "n3", "n4"]
    assert acme.collections() == {"notes": 4}


def test_a_query_finds_by_every_part_and_goes_on_where_it_stopped(acme, monkeypatch):
    seed(acme)
    assert [d.key for d in acme.find("notes", {"value.team": "red", "text": {"$regex": "boiler"}}).documents] == ["n3"]
    monkeypatch.setattr(module, "SCANNED_MAX", 2)
    keys, after, pages = [], "", 0
    while after is not None:
        page = acme.find("notes", {"value.team": {"$in": ["blue"]}}, after=after)
        keys, after, pages = [*keys, *(d.key for d in page.documents)], page.following, pages + 1
    assert (keys, pages) == (["n1", "n4"], 2)
    for bad in ({"$where": "1"}, {"org_id": "x"}, {"value": {"$near": {}}}, []):
        with pytest.raises(BadFilter):
            acme.find("notes", bad)


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (Draft(key="", value={}), "key"),
        (Draft(key="a/b", value={}), "key"),
        (Draft(key=" a", value={}), "key"),
        (Draft(key="x" * 181, value={}), "key"),
        (Draft(key="a", value=[1]), "value"),
        (Draft(key="a", value={"a": object()}), "value"),
        (Draft(key="a", value={"a": "x" * 2**20}), "value"),
        (Draft(key="a", value={}, text=7), "text"),
        (Draft(key="a", value={}, text="x" * 65_537), "text"),
        (Draft(key="a", value={}, vector=[1.0]), "vector"),
        (Draft(key="a", value={}, vector=[0.0] * 384), "vector"),
        (Draft(key="a", value={}, vector=["x"] * 384), "vector"),
        (Draft(key="a", value={}, vector=[float("nan")] * 384), "vector"),
    ],
)
def test_what_cannot_be_a_document_is_refused_by_name_and_nothing_is_stored(acme, draft, field):
    with pytest.raises(Invalid) as refused:
        acme.put_many("notes", [draft], by="tests", now=NOON)
    assert [problem.field for problem in refused.value.problems] == [field]
    assert (ContextDocument.objects.count(), ContextVector.objects.count()) == (0, 0)


def test_a_collection_has_room_for_some_documents(acme, monkeypatch):
    monkeypatch.setattr(module, "DOCUMENTS_MAX", 2)
    put(acme, "a")
    put(acme, "b")
    put(acme, "b", again=True)
    with pytest.raises(CollectionFull):
        put(acme, "c")
    assert acme.collections() == {"notes": 2}


# ---- ContextInfo ----


@pytest.fixture
def info(acme) -> ContextInfo:
    store = ContextStore()
    store.write_once("acme/s1", {"topic": "boilers", "limit": 3}, SUBMITTED, NOON)
    store.write_once("acme/s1", {"report": {"pages": 2}}, "acme/s1:main.report#1", NOON + timedelta(seconds=1))
    store.write_once("acme/s1", {"topic": "pumps"}, "acme/s1:main.turn#1", NOON + timedelta(seconds=2))
    found = ContextInfo("acme", "acme/s1")
    found.seed_data(
        {
            "documents": [{"key": "d1", "value": {"page": 1}, "text": "leaking boilers"}, {"key": "d2", "value": {}, "text": "sales"}],
            "nodes": [{"key": "a", "value": {"next": ["b"]}}, {"key": "b", "value": {"next": []}}],
            "messages": [{"key": "001", "value": {"from": "sam"}}, {"key": "002", "value": {"from": "kim"}}],
            "user_context": [{"key": "sam", "value": {"language": "de"}}],
            "user_forms": [{"key": "f1", "value": {"user_id": "sam", "state": "open"}}, {"key": "f2", "value": {"user_id": "kim"}}],
            "models": [{"key": "small", "value": {"context": 8000}}],
        },
        by="tests",
        now=NOON,
    )
    return found


def test_every_query_finds_what_was_seeded(info):
    assert [(hit["key"], hit["value"]) for hit in info.query_vector_database("leaking boiler", limit=1)] == [("d1", {"page": 1})]
    assert [node["key"] for node in info.query_nodes({"value.next": "b"})] == ["a"]
    assert [message["key"] for message in info.query_messages()] == ["001", "002"]
    assert (info.query_user_context("sam"), info.query_user_context("nobody")) == ({"language": "de"}, {})
    assert [form["key"] for form in info.query_user_forms("sam", {"value.state": "open"})] == ["f1"]
    assert info.query_user_forms("sam", {"$or": [{"key": "f2"}]}) == []
    assert [model["key"] for model in info.query_models({"value.context": {"$gte": 4000}}, limit=1)] == ["small"]


def test_agents_are_the_orgs_own_and_active(info):
    make_agent("acme", "ada", capabilities=("python",))
    make_agent("acme", "bo")
    make_agent("acme", "gone", is_active=False)
    make_agent("acme", "sue", subject_type="human")
    make_agent("umbra", "eve", capabilities=("python",))
    assert [agent["subject_id"] for agent in info.query_agents()] == ["ada", "bo"]
    assert [agent["subject_id"] for agent in info.query_agents({"capabilities": "python"})] == ["ada"]
    with pytest.raises(BadFilter):
        info.query_agents({"org_id": "umbra"})


def test_outputs_are_what_steps_wrote(info):
    assert [(one["key"], one["version"], one["written_by"]) for one in info.query_outputs()] == [
        ("report", 2, "acme/s1:main.report#1"), ("topic", 3, "acme/s1:main.turn#1"),
    ]  # fmt: skip
    assert [one["value"] for one in info.query_outputs(["topic", "limit"])] == ["pumps"]
    earlier = ContextInfo("acme", "acme/s1", at_version=2)
    assert (earlier.context["topic"], [one["key"] for one in earlier.query_outputs()]) == ("boilers", ["report"])


def test_the_context_is_json_that_is_bounded(info):
    assert json.loads(info.to_json()) == {"topic": "pumps", "limit": 3, "report": {"pages": 2}} == info.context
    assert info.prepare_context_for_output(["report", "nothing"], value_max=5) == {"report": {"$omitted": 11}}


def test_anything_at_all_becomes_json():
    loop: list = []
    loop.append(loop)

    class Rude:
        def __str__(self) -> str:
            raise RuntimeError

    odd = {1: float("nan"), "at": date(2026, 1, 2), "set": {1}, "loop": loop, "rude": Rude(), "half": "\ud800", "big": 2**80}
    told = json.loads(ContextInfo._safe_json_dumps(odd))
    assert (told["1"], told["at"], told["set"], told["big"]) == (None, "2026-01-02", [1], 2**80)
    assert "Rude" in told["rude"]
    assert json.loads(ContextInfo._safe_json_dumps("x" * 100, limit=50)) == {"$omitted": 102}


def test_the_structure_of_a_context_is_judged():
    info = ContextInfo("acme")
    assert info.validate_context_structure({"a": [1, None], "b": {}}) == []
    assert [problem.field for problem in info.validate_context_structure([])] == ["context"]
    wrong = {"": 1, "a\nb": 1, "nan": [float("nan")], "set": {1}, "deep": {"x": {2: 3}}}
    assert [problem.code for problem in info.validate_context_structure(wrong)] == [
        "bad_key",
        "bad_key",
        "not_json",
        "not_json",
        "not_json",
    ]


def test_seeding_twice_is_harmless_and_a_bad_seed_stores_nothing(acme):
    info = ContextInfo("acme")
    seeds = {"notes": [{"key": "a", "value": {}, "text": "x"}]}
    assert [info.seed_data(seeds, by="t", now=NOON) for _ in range(2)] == [{"notes": 1}, {"notes": 0}]
    for bad in ([{"key": "b"}], [{"key": "b", "value": {}, "org": "umbra"}], "x", [7], [{"key": "", "value": {}}]):
        with pytest.raises(Invalid):
            info.seed_data({"good": [{"key": "g", "value": {}}], "notes": bad}, by="t", now=NOON)
    assert acme.collections() == {"notes": 1}


def test_nothing_of_another_org_can_be_reached(info):
    make_org("umbra")
    other = ContextInfo("umbra")
    queries = [other.query_nodes(), other.query_messages(), other.query_user_context("sam"), other.query_user_forms("sam")]
    queries += [other.query_models(), other.query_agents(), other.query_outputs(), other.query_vector_database("boiler"), other.context]
    assert not any(queries)
    with pytest.raises(ValueError, match="another org"):
        ContextInfo("umbra", "acme/s1")
    assert ContextInfo.of_session("acme/s1").context["topic"] == "pumps"
    with pytest.raises(ValueError, match="slash"):
        ContextInfo("acme/s1")
