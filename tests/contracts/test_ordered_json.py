"""A document comes back with its keys in the order in which it came, on every store."""

from __future__ import annotations

import pytest
from django.db import connection, models
from django.db.utils import load_backend
from psycopg.conninfo import conninfo_to_dict

from apps.core import bulk, clock
from apps.core.ordered_json import OrderedJSON
from apps.workflows import expansion
from apps.workflows.engine.births import hash_of
from apps.workflows.models import Session
from tests.spec_examples import MATRIX


@pytest.fixture
def postgresql(pgvector):
    address = conninfo_to_dict(pgvector)
    settings = {
        **connection.settings_dict, "ENGINE": "django.db.backends.postgresql", "NAME": address["dbname"], "USER": address["user"],
        "PASSWORD": "", "HOST": address["host"], "PORT": address.get("port", ""), "OPTIONS": {},
    }  # fmt: skip
    found = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias="ordered")
    yield found
    found.close()


class Kept(models.Model):
    document = OrderedJSON(null=True)

    class Meta:
        app_label = "contracts"
        managed = False


def test_postgresql_keeps_the_order_of_keys(postgresql, django_db_blocker):
    field = Kept._meta.get_field("document")
    with django_db_blocker.unblock(), postgresql.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE kept (id int, document {field.db_type(postgresql)})")
        for number, given in enumerate([MATRIX, None, {"b": None, "a": [1.5, "é"]}]):
            cursor.execute("INSERT INTO kept VALUES (%s, %s)", [number, field.get_db_prep_save(given, postgresql)])
        cursor.execute("SELECT document FROM kept ORDER BY id")
        found, nothing, other = (field.from_db_value(value, None, postgresql) for (value,) in cursor.fetchall())
        assert nothing is None and list(other) == ["b", "a"] and other["a"] == [1.5, "é"]
        # From a jsonb column, as it was before: `ALTER … TYPE json`.
        cursor.execute("CREATE TEMPORARY TABLE older (document jsonb); INSERT INTO older VALUES ('{\"a\": 1}')")
        cursor.execute("ALTER TABLE older ALTER COLUMN document TYPE json USING document::json")
    names = [item.identifier for item in expansion.expand(found["expansion_config"], found, {}).items]
    assert names == ["A1", "A2", "A3", "B1", "B2", "B3"]


@pytest.mark.store
@pytest.mark.django_db
def test_a_stored_session_keeps_the_order_of_its_document():
    assert isinstance(Session._meta.get_field("document"), OrderedJSON)

    now = clock.now()
    document = {"zz": 1, "b": {"y": 1, "x": {"bb": 1, "a": 2}}, "a": 3}
    row = bulk.new(
        Session, key="acme/o", org_id="acme", session_id="o", status="running", document=document, body_hash="", sequence=1,
        created_at=now, updated_at=now,
    )  # fmt: skip
    bulk.insert([row])
    found = Session.objects.get(pk="acme/o").document
    assert repr(found) == repr(document)


def test_the_same_keys_in_another_order_are_another_document():
    turned = {**MATRIX, "expansion_config": {**MATRIX["expansion_config"], "array_mapping": {"col": "cols", "row": "rows"}}}
    assert turned == MATRIX and hash_of(turned) != hash_of(MATRIX)
