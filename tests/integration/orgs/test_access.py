"""The door: bearer keys, and the ladder of roles."""

from __future__ import annotations

import pytest
from django.urls import path
from rest_framework.views import APIView

from apps.core.http import answer
from apps.orgs.access import RequireRole
from tests.factories import bearer, make_key


class Desk(APIView):
    permission_classes = [RequireRole("submitter", POST="org_admin", PUT="operator", DELETE="agent")]

    def get(self, request):
        return answer({"org": request.user.org_id, "actor": request.user.actor})

    post = put = delete = get


class Silent(APIView):
    def get(self, request):
        return answer({})


urlpatterns = [path("api/v1/desk", Desk.as_view()), path("api/v1/silent", Silent.as_view())]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

CELLS = {
    "submitter": {"get": 200, "post": 403, "put": 403, "delete": 403},
    "operator": {"get": 200, "post": 403, "put": 200, "delete": 403},
    "org_admin": {"get": 200, "post": 200, "put": 200, "delete": 403},
    "agent": {"get": 403, "post": 403, "put": 403, "delete": 200},
}


@pytest.mark.parametrize(("role", "method", "status"), [(r, m, s) for r, row in CELLS.items() for m, s in row.items()])
def test_only_the_drawn_cells_of_the_role_matrix_are_allowed(client, role, method, status):
    assert getattr(client, method)("/api/v1/desk", headers=bearer(make_key("acme", role, subject_id="ada"))).status_code == status


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer ", "Bearer jp_x_y", "Basic YTpi", "Token jp_abcd_" + "x" * 40, "jp_abcd_" + "x" * 40]
)
def test_without_a_good_key_the_answer_is_401_and_says_how_to_ask(client, value):
    response = client.get("/api/v1/desk", headers={} if value is None else {"Authorization": value})
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_key_in_the_url_is_not_a_key(client):
    key = make_key("acme")
    assert client.get(f"/api/v1/desk?api_key={key}&token={key}&Authorization=Bearer%20{key}").status_code == 401


def test_a_view_that_says_nothing_is_for_admins_only(client):
    assert client.get("/api/v1/silent").status_code == 401
    assert client.get("/api/v1/silent", headers=bearer(make_key("acme", "operator"))).status_code == 403
    assert client.get("/api/v1/silent", headers=bearer(make_key("acme", "org_admin"))).status_code == 200


def test_a_staff_session_of_the_admin_is_not_a_key(admin_client):
    assert admin_client.get("/api/v1/desk").status_code == 401


def test_the_actor_names_subject_and_key(client):
    key = make_key("acme", subject_id="sam")
    assert client.get("/api/v1/desk", headers=bearer(key)).json() == {"org": "acme", "actor": f"sam (key {key.split('_')[1]})"}
