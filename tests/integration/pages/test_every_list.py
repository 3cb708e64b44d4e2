"""What holds for every list of the admin there is, found by asking the admin: a new one is covered the day it is registered."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

import jobplatform.urls  # noqa: F401  # registers them
from tests.factories import make_org
from tests.integration.pages.rows import ORGS, fill

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
FEW, MANY = 5, 30


@pytest.fixture(autouse=True)
def orgs(db):
    for org_id in ORGS:
        make_org(org_id)


def path(model) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def reads(client, address: str) -> tuple[int, str]:
    """How often the databases were asked for one page, and the page. Of two looks the second counts: some things are remembered."""
    client.get(address)
    told = [CaptureQueriesContext(connections[alias]) for alias in connections]
    for each in told:
        each.__enter__()
    response = client.get(address)
    for each in told:
        each.__exit__(None, None, None)
    assert response.status_code == 200, address
    return sum(len(each) for each in told), response.text


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_a_list_asks_the_database_as_often_for_30_rows_as_for_5(admin_client, model):
    address = path(model) + ("?state=all" if model._meta.model_name == "deadletter" else "")
    fill(model, FEW)
    few, _ = reads(admin_client, address)
    fill(model, MANY - FEW)
    many, page = reads(admin_client, address)
    assert page.count("<tr><t") >= MANY // 2 and "jp-empty" not in page
    assert many <= few, f"{few} reads for {FEW} rows, {many} for {MANY}"
    title = re.search(r"<title>([^|<]+) \|", page)[1]
    assert "Select " not in title and title.strip()
    assert not re.search(r"&lt;[\w.]+ object|datetime\.datetime|Decimal\(|&#x27;: ", page), "Python shows through"
