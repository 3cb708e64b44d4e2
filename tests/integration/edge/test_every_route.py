"""What holds on every path there is, found by walking the table of paths: a new one is covered the day it is added."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from tests.factories import bearer, make_key

pytestmark = pytest.mark.django_db

PUBLIC = {"", "health", "ready", "api/schema", "api/docs"}
METHODS = ("get", "post", "put", "patch", "delete", "head", "options")


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        elif isinstance(pattern, URLPattern):
            yield route


ROUTES = sorted({re.sub(r"<[^>]+>", "x", route) for route in routes(get_resolver())})
API = [route for route in ROUTES if not route.startswith(("admin/", "inbox/")) and route not in PUBLIC]
ADMIN = [route for route in ROUTES if route.startswith("admin/") and not re.search(r"[\\^$(]", route)]


def test_the_walk_finds_the_paths():
    assert {"role-group", "org-config/x/x", "internal/process-task", "api/v1/tasks/bulk"} <= set(API) and len(ADMIN) > 20


def test_the_address_alone_leads_to_the_api_docs_the_admin_and_the_inbox(client):
    page = client.get("/").text
    assert [path for path in ("/api/docs", "/admin/", "/inbox/") if f'href="{path}"' not in page] == []
    assert client.post("/").status_code == 405


@pytest.mark.parametrize("route", API)
def test_every_path_of_the_api_is_closed_without_a_key(client, route):
    for method in METHODS:
        for headers in ({}, {"Authorization": "Bearer jp_aaaaaaaaaaaa_" + "x" * 43}, {"Authorization": "Basic YTpi"}):
            response = getattr(client, method)(f"/{route}", headers=headers)
            assert response.status_code == 401, (method, route)
            assert response["WWW-Authenticate"].startswith("Bearer") and "json" in response["Content-Type"]


@pytest.mark.parametrize("route", API)
def test_no_path_of_the_api_answers_another_spelling_or_breaks_on_an_odd_method(client, route):
    key = bearer(make_key("acme", "org_admin"))
    client.raise_request_exception = False
    assert client.get(f"/{route}/", headers=key).status_code == 404
    for odd in ("TRACE", "CONNECT", "BREW"):
        assert client.generic(odd, f"/{route}", headers=key).status_code == 405
    if "/x" not in route:
        assert client.get(f"/{route.upper()}", headers=key).status_code == 404


@pytest.mark.parametrize("route", ADMIN)
def test_every_page_of_the_admin_asks_who_is_there(client, route):
    response = client.get(f"/{route}")
    if route == "admin/login/":
        assert response.status_code == 200
    elif route not in ("admin/jsi18n/", "admin/logout/"):
        assert response.status_code in (302, 404) and (response.status_code == 404 or "/admin/login/" in response["Location"])


@pytest.mark.parametrize("route", ADMIN)
def test_a_key_of_the_api_does_not_open_the_admin(client, route):
    response = client.get(f"/{route}", headers=bearer(make_key("acme", "org_admin")))
    assert response.status_code in (302, 404) or route in ("admin/login/", "admin/jsi18n/")


@pytest.mark.parametrize("route", ["", "nothing/here", "admin/login/", "inbox/login", "api/docs"])
def test_pages_run_only_scripts_of_their_own_and_stand_in_no_frame(client, route):
    response = client.get(f"/{route}", headers={"Accept": "text/html"})
    policy = response["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "script" not in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>\s*\S", response.text), "a script written into the page"
    assert not re.search(r"\son\w+=", response.text), "an event handler written into the page"
    assert response["X-Content-Type-Options"] == "nosniff" and response["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("route", API)
def test_no_path_and_no_query_holds_nul(client, route):
    key = bearer(make_key("acme", "org_admin"))
    for method in ("get", "put", "post", "delete"):
        if "x" in route.split("/"):
            assert getattr(client, method)(f"/{route.replace('/x', '/a%00b')}", headers=key).status_code == 404
        assert getattr(client, method)(f"/{route}?after=%00", headers=key).status_code == 400


def test_the_document_of_the_api_describes_every_path(client):
    described = set(client.get("/api/schema?format=json").json()["paths"])
    assert {re.sub(r"{[^}]+}", "x", path).lstrip("/") for path in described} == set(API)


def test_answers_to_programs_may_run_nothing(client):
    assert client.get("/api/v1/roles")["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_a_key_is_never_logged(client, caplog):
    key = make_key("acme")
    client.raise_request_exception = False
    with caplog.at_level(logging.DEBUG):
        for route in API:
            client.get(f"/{route}?key={key}", headers=bearer(key + "x"))
            client.post(f"/{route}", data="{", content_type="application/json", headers=bearer(key))
    told = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert key.split("_", 2)[2] not in told
