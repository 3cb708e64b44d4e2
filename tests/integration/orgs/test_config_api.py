"""GET and POST /org-config/<org_id>/<key>, as the spec writes them, and every way to ask wrongly."""

from __future__ import annotations

import pytest

from apps.orgs.config_keys import TABLE
from apps.orgs.models import Change, OrgConfigParameter
from tests.factories import bearer, make_key

pytestmark = pytest.mark.django_db

PATH = "/org-config/acme/agent_resolution_strategy"


@pytest.fixture
def admin(redis):
    return bearer(make_key("acme", "org_admin", subject_id="root"))


def post(client, path, body, headers):
    return client.post(path, data=body, content_type="application/json", headers=headers)


def nothing_stored() -> bool:
    return not OrgConfigParameter.objects.exists() and not Change.objects.filter(kind="config").exists()


def without_id(response) -> dict:
    return {name: value for name, value in response.json().items() if name != "request_id"}


def test_set_get_and_not_found_are_the_spec_s(client, admin):
    missing = client.get(PATH, headers=admin)
    assert missing.status_code == 404
    assert without_id(missing) == {
        "success": False, "error": "Key 'agent_resolution_strategy' not found for org acme", "code": "not_found",
    }  # fmt: skip
    assert post(client, PATH, {"value": "plan+retrieve"}, admin).json() == {"success": True, "version": 1}
    assert client.get(PATH, headers=admin).json() == {
        "success": True, "key": "agent_resolution_strategy", "value": "plan+retrieve", "version": 1,
    }  # fmt: skip


def test_who_changed_it_is_on_record(client, admin):
    post(client, PATH, {"value": "static"}, admin)
    assert OrgConfigParameter.objects.get().changed_by == Change.objects.get(kind="config").by
    assert OrgConfigParameter.objects.get().changed_by.startswith("root (key ")


def test_a_change_over_a_version_that_is_no_more_is_a_conflict(client, admin):
    assert post(client, PATH, {"value": "static", "version": 0}, admin).status_code == 200
    conflict = post(client, PATH, {"value": "auction", "version": 0}, admin)
    assert (conflict.status_code, conflict.json()["version"], conflict.json()["success"]) == (409, 1, False)
    assert post(client, PATH, {"value": "auction", "version": 1}, admin).json()["version"] == 2


def test_the_version_may_come_as_an_etag_too(client, admin):
    """If-Match, for setting and for going back to the default."""

    def send(method, path, body=b"", **headers):
        return client.generic(method, path, body, "application/json", headers={**admin, **headers})

    set_ = b'{"value": "static"}'
    assert send("POST", PATH, set_, **{"If-Match": '"0"'}).status_code == 200
    assert client.get(PATH, headers=admin).headers["ETag"] == '"1"'
    assert send("POST", PATH, set_, **{"If-Match": '"0"'}).status_code == 409
    assert send("POST", PATH, b'{"value": "auction", "version": 1}', **{"If-Match": '"2"'}).status_code == 422
    for wrong in ('"x"', '"1", "2"', "W/1", "-1", "9" * 30):
        assert send("POST", PATH, set_, **{"If-Match": wrong}).json()["errors"][0]["field"] == "If-Match"
    default = "/api/v1/org-config/agent_resolution_strategy"
    assert send("DELETE", default, **{"If-Match": '"0"'}).status_code == 409
    assert OrgConfigParameter.objects.get().value == "static"
    assert send("DELETE", default, **{"If-Match": '"1"'}).status_code == 204
    assert send("POST", PATH, set_, **{"If-Match": "*"}).json()["version"] == 1


@pytest.mark.parametrize("key", ["agent_resolution_strategy", "nonsense", "x" * 1000, "a%00b", "..", "💥", "a%0Ab", "value.$where"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_another_org_is_answered_exactly_as_one_that_does_not_exist(client, admin, key, method):
    make_key("bolt")
    theirs = bearer(make_key("bolt", "org_admin"))
    post(client, "/org-config/bolt/agent_resolution_strategy", {"value": "static"}, theirs)
    answers = []
    for org_id in ("bolt", "none"):
        path = f"/org-config/{org_id}/{key}"
        asked = client.get(path, headers=admin) if method == "get" else post(client, path, {"value": "auction"}, admin)
        assert asked.status_code == 404
        answers.append({name: str(value).replace(org_id, "ORG") for name, value in without_id(asked).items()})
    assert answers[0] == answers[1]
    assert list(OrgConfigParameter.objects.values_list("org_id", "value")) == [("bolt", "static")]


@pytest.mark.parametrize(
    ("role", "get", "set_"), [("submitter", 200, 403), ("operator", 200, 403), ("org_admin", 200, 200), ("agent", 403, 403)]
)
def test_submitters_may_read_and_only_org_admins_write(client, admin, role, get, set_):
    post(client, PATH, {"value": "static"}, admin)
    key = bearer(make_key("acme", role, subject_id="x"))
    assert client.get(PATH, headers=key).status_code == get
    assert post(client, PATH, {"value": "auction"}, key).status_code == set_


@pytest.mark.parametrize("path", [PATH, "/api/v1/org-config", "/api/v1/org-config/max_attempts"])
@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_without_a_key_there_is_only_401(client, path, method, db):
    assert getattr(client, method)(path).status_code == 401


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_other_methods_are_405(client, admin, method):
    assert getattr(client, method)(PATH, headers=admin).status_code == 405
    assert getattr(client, method)(PATH, headers={**admin, "X-HTTP-Method-Override": "POST"}).status_code == 405


@pytest.mark.parametrize(
    "path",
    [f"{PATH}/", "/ORG-CONFIG/acme/max_attempts", "/org-config/acme", "/org-config/acme/", "/org-config", "/org-config//max_attempts"],
)
def test_a_path_is_spelled_one_way_only(client, admin, path):
    response = client.get(path, headers={**admin, "Accept": "*/*"})
    assert response.status_code == 404 and response["Content-Type"].startswith("application/")


BAD_JSON = [
    b"", b"{", b"value", b'{"value":NaN}', b'{"value":Infinity}', b'{"value":1,"value":2}', b'\xef\xbb\xbf{"value":1}', b'{"value":"\xff"}',
    b'{"value":"\\ud800"}',
]  # fmt: skip
BAD_BODY = [
    b"[]", b'"static"', b"null", b"1", b"{}", b'{"valeu":"static"}', b'{"value":"static","org_id":"bolt"}', b'{"value":"static","by":"me"}',
    b'{"value":"static","version":true}', b'{"value":"static","version":1.0}', b'{"value":"static","version":-1}',
    b'{"value":"static","version":null}', b'{"value":9223372036854775808}', b'{"value":1e400}', b'{"value":"a\\u0000"}',
    b'{"value":' + b"[" * 40 + b"]" * 40 + b"}", b'{"value":"' + b"x" * 65537 + b'"}', b'{"value":[' + b",".join([b"0"] * 10_001) + b"]}",
    b'{"value":{' + b",".join(b'"k%d":0' % n for n in range(1001)) + b"}}",
    b'{"value":null}', b'{"value":true}', b'{"value":"Static"}', b'{"value":"static "}', b'{"value":["static"]}', b'{"value":{"$ne":""}}',
    b'{"value":"st\xc3\xa1tic"}',
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), [(b, 400) for b in BAD_JSON] + [(b, 422) for b in BAD_BODY] + [(b" " * 1_048_577, 413)])
def test_bad_bodies_are_refused_and_nothing_is_stored(client, admin, body, status):
    response = client.generic("POST", PATH, body, content_type="application/json", headers=admin)
    assert response.status_code == status and response.json()["success"] is False and response.json()["error"]
    if status == 422:
        assert response.json()["errors"]
    assert nothing_stored()


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", ""]
)
def test_other_content_types_are_415(client, admin, kind):
    assert client.generic("POST", PATH, b'{"value":"static"}', content_type=kind, headers=admin).status_code == 415
    assert nothing_stored()


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(client, admin):
    response = post(client, "/org-config/acme/agent_resolution_stratgy", {"value": "static"}, admin)
    assert response.status_code == 422
    assert response.json()["error"] == (
        "There is no configuration key 'agent_resolution_stratgy'; did you mean 'agent_resolution_strategy'?"
    )
    assert client.get("/org-config/acme/agent_resolution_stratgy", headers=admin).status_code == 404
    for key in ("__class__", "value", "x" * 5000, "version", "a%2Fb%00", "%F0%9F%92%A5"):
        assert post(client, f"/org-config/acme/{key}", {"value": 1}, admin).status_code in (404, 422)
    assert nothing_stored()


def test_with_redis_away_a_change_is_503_and_undone(client, admin, settings):
    from apps.core import redis as door
    from tests.services import free_port

    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    door.reset()
    response = post(client, PATH, {"value": "static"}, admin)
    assert (response.status_code, response["Retry-After"]) == (503, "2") and nothing_stored()
    assert client.get(PATH, headers=admin).status_code == 404


def test_the_table_lists_every_key_with_its_meaning_and_what_holds_now(client, admin):
    post(client, "/org-config/acme/max_attempts", {"value": 3}, admin)
    body = client.get("/api/v1/org-config", headers=bearer(make_key("acme"))).json()
    rows = {row["key"]: row for row in body["parameters"]}
    assert body["org_id"] == "acme" and body["version"] == 1 and list(rows) == list(TABLE)
    assert (rows["max_attempts"]["value"], rows["max_attempts"]["default"], rows["max_attempts"]["is_set"]) == (3, 5, True)
    assert (rows["lease_seconds"]["value"], rows["lease_seconds"]["is_set"], rows["lease_seconds"]["changed_by"]) == (20, False, None)
    assert all(row["meaning"] and row["type"] and row["schema"] for row in rows.values())


def test_back_to_the_default(client, admin):
    post(client, "/org-config/acme/max_attempts", {"value": 3}, admin)
    assert client.delete("/api/v1/org-config/max_attempts", headers=bearer(make_key("acme", "operator"))).status_code == 403
    assert client.delete("/api/v1/org-config/max_attempts", headers=admin).status_code == 204
    assert client.delete("/api/v1/org-config/max_attempts", headers=admin).status_code == 404
    assert client.delete("/api/v1/org-config/nonsense", headers=admin).status_code == 422
    assert client.get("/org-config/acme/max_attempts", headers=admin).status_code == 404
