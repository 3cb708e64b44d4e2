"""The admin's pages of webhooks: through the same book as the API, and the secret on one page only."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.utils import quote
from django.urls import reverse

from apps.core import clock
from apps.orgs.models import Change
from apps.webhooks.book import WebhookBook
from apps.webhooks.models import Delivery, Endpoint
from tests.factories import make_org
from tests.integration.webhooks.conftest import serve

pytestmark = [pytest.mark.django_db, pytest.mark.store]
LIST = "admin:webhooks_endpoint_changelist"


def act(client, row: Endpoint, action: str):
    return client.post(reverse(LIST), {"action": action, "_selected_action": [row.pk], "confirmed": "yes"}, follow=True)


def test_an_endpoint_is_made_changed_and_deleted_and_audited(admin_client, redis):
    make_org("acme")
    wish = {"org": "acme", "url": "https://hooks.example.com/", "events": ["task.completed"], "description": "ERP", "enabled": "on"}
    page = admin_client.post(reverse("admin:webhooks_endpoint_add"), wish)
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", page.text)[0]
    row = Endpoint.objects.get()
    change = reverse("admin:webhooks_endpoint_change", args=[quote(row.pk)])
    shown = admin_client.get(change).text + admin_client.get(reverse(LIST)).text
    assert secret not in shown and "ERP" in shown and row.pk in shown
    changed = admin_client.post(change, {**wish, "events": ["*", "task.failed"], "enabled": ""})
    assert changed.status_code == 302, changed.text
    row.refresh_from_db()
    assert (row.events, row.enabled, row.disabled_because) == (["*"], False, "by admin admin")
    wrong = admin_client.post(change, {**wish, "url": "http://127.0.0.1/"})
    assert "not on the public internet" in wrong.text
    admin_client.post(reverse("admin:webhooks_endpoint_delete", args=[quote(row.pk)]), {"post": "yes"})
    assert not Endpoint.objects.exists()
    assert list(Change.objects.filter(kind="webhook").values_list("by", flat=True)) == ["admin admin"] * 3


def test_pings_rotations_and_replays_are_actions_and_the_log_is_shown(admin_client, endpoint, receiver):
    row, _ = endpoint()
    receiver.answer = lambda _got: (500, {}, b"<b>boom</b>")
    assert "pinged" in act(admin_client, row, "ping").text
    serve(row, now=clock.now())
    made = Delivery.objects.get()
    page = admin_client.get(reverse("admin:webhooks_delivery_change", args=[quote(made.pk)])).text
    assert "It answered 500. &lt;b&gt;boom" in page and "<b>boom" not in page
    listed = reverse("admin:webhooks_delivery_changelist")
    assert "1 webhook delivery" in admin_client.get(f"{listed}?endpoint_id={row.pk}").text
    assert "0 webhook deliveries" in admin_client.get(f"{listed}?endpoint_id=wh_x").text
    Delivery.objects.update(state="failed")
    assert "replayed" in act(admin_client, row, "replay_failed").text and Delivery.objects.get().state == "pending"
    assert "whsec_" in act(admin_client, row, "rotate").text and Endpoint.objects.get().previous_until
    WebhookBook(org_id="acme", by="tests", now=clock.now()).change(row.pk, {"enabled": False})
    assert "disabled" in act(admin_client, row, "ping").text
