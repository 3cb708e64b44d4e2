"""Context documents over HTTP."""

from __future__ import annotations

import json

import pytest

from tests.factories import bearer, make_key, make_org

pytestmark = [pytest.mark.django_db, pytest.mark.store]
PATH = "/api/v1/context"


@pytest.fixture
def acme(client, redis):
    return Caller(client, "acme", "operator")


class Caller:
    def __init__(self, client, org, role):
        self.client, self.headers = client, bearer(make_key(make_org(org), role))

    def __call__(self, method, path, body=None):
        given = [] if body is None else [json.dumps(body), "application/json"]
        return self.client.generic(method, f"{PATH}{path}", *given, headers=self.headers)


def test_a_document_travels_in_and_out(acme):
    made = acme("PUT", "/notes/documents/n%201", {"value": {"team": "blue"}, "text": "the boiler leaks"})
    assert (made.status_code, made.json()["key"]) == (201, "n 1")
    assert acme("PUT", "/notes/documents/n%201", {"value": {"team": "red"}, "text": "the boiler leaks"}).status_code == 200
    assert acme("GET", "/notes/documents/n%201").json()["value"] == {"team": "red"}
    seeded = acme("POST", "/notes", {"documents": [{"key": "n2", "value": {}, "text": "sales"}, {"key": "n 1", "value": {"team": "red"}}]})
    assert seeded.json() == {"stored": 2, "new": 1}
    assert acme("GET", "").json() == {"items": [{"collection": "notes", "documents": 2}]}
    page = acme("GET", "/notes?limit=1").json()
    assert ([one["key"] for one in page["items"]], page["next"]) == (["n 1"], "n 1")
    assert [one["key"] for one in acme("GET", "/notes?after=n%201").json()["items"]] == ["n2"]
    assert [one["key"] for one in acme("POST", "/notes/query", {"filter": {"value.team": "red"}}).json()["items"]] == ["n 1"]
    (hit,) = acme("POST", "/notes/search", {"text": "sales figures"}).json()["items"]
    assert hit["key"] == "n2" and 0 < hit["score"] <= 1
    assert acme("DELETE", "/notes/documents/n2").status_code == 204
    assert acme("GET", "/notes/documents/n2").status_code == 404


def test_what_is_wrong_is_named(acme):
    for method, path, body, status, field in (
        ("PUT", "/notes/documents/n1", {"text": "x"}, 422, "value"),
        ("PUT", "/notes/documents/n1", {"value": {}, "org": "umbra"}, 422, "org"),
        ("PUT", "/notes/documents/n1", {"value": {}, "vector": [1]}, 422, "vector"),
        ("PUT", "/no.tes/documents/n1", {"value": {}}, 422, "collection"),
        ("POST", "/notes/query", {"filter": {"$where": "1"}}, 400, "$where"),
        ("POST", "/notes/query", {"limit": 0}, 422, "limit"),
        ("POST", "/notes/query", {"after": 7}, 422, "after"),
        ("POST", "/notes/search", {}, 422, "text"),
        ("POST", "/notes/search", {"text": "x", "vector": []}, 422, "text"),
        ("POST", "/notes/search", {"vector": "x"}, 422, "vector"),
        ("POST", "/notes", {"documents": [{"key": "a"}]}, 422, "documents.0.value"),
        ("GET", "/notes?limit=0", None, 400, "limit"),
        ("GET", "/notes?org=umbra", None, 400, "org"),
    ):
        answer = acme(method, path, body)
        assert (answer.status_code, answer.json().get("errors", [{"field": ""}])[0]["field"]) == (status, field), (
            path,
            body,
            answer.content,
        )
    assert acme("GET", "").json() == {"items": []}


def test_orgs_are_apart_and_roles_do_what_they_may(acme, client):
    acme("PUT", "/notes/documents/n1", {"value": {"secret": 1}, "text": "boiler"})
    stranger = Caller(client, "umbra", "org_admin")
    for method in ("GET", "DELETE"):
        theirs, nobodys = stranger(method, "/notes/documents/n1"), stranger(method, "/notes/documents/none")
        assert theirs.status_code == nobodys.status_code == 404
        assert {**theirs.json(), "request_id": ""} == {**nobodys.json(), "request_id": ""}
    assert stranger("GET", "").json()["items"] == stranger("GET", "/notes").json()["items"] == []
    assert (
        stranger("POST", "/notes/query", {}).json()["items"] == stranger("POST", "/notes/search", {"text": "boiler"}).json()["items"] == []
    )
    assert stranger("PUT", "/notes/documents/n1", {"value": {}}).status_code == 201
    assert acme("GET", "/notes/documents/n1").json()["value"] == {"secret": 1}
    submitter = Caller(client, "acme", "submitter")
    assert submitter("GET", "/notes/documents/n1").status_code == submitter("POST", "/notes/search", {"text": "x"}).status_code == 200
    refused = [
        submitter("PUT", "/notes/documents/n1", {"value": {}}),
        submitter("DELETE", "/notes/documents/n1"),
        submitter("POST", "/notes", {}),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert acme("GET", "/notes/documents/n1").json()["value"] == {"secret": 1}


def test_operators_look_at_documents_in_the_admin_and_change_nothing(acme, admin_client):
    acme("PUT", "/notes/documents/n1", {"value": {"team": "<b>blue</b>"}, "text": "the boiler leaks"})
    list_page, one = "/admin/workflows/contextdocument/", "/admin/workflows/contextdocument/acme_2Fnotes_2Fn1/change/"
    for query in ("", "?q=notes", "?q=n1", "?org=acme"):
        assert "the boiler leaks" in admin_client.get(list_page + query).content.decode(), query
    assert "the boiler leaks" not in admin_client.get(f"{list_page}?q=elsewhere").content.decode()
    shown = admin_client.get(one).content.decode()
    assert "&lt;b&gt;blue" in shown and "<b>blue" not in shown
    assert admin_client.post(one, {"text": "mine"}).status_code == 403
