"""What jobs answer is in the OpenAPI document of their views, without a warning."""

from __future__ import annotations

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tests.integration.jobs_views import urls


@pytest.mark.django_db
def test_the_document_knows_the_202_the_status_and_the_result():
    GENERATOR_STATS.reset()
    document = SchemaGenerator(patterns=urls.own).get_schema(public=True)
    validate_schema(document)
    assert not GENERATOR_STATS
    paths, schemas = document["paths"], document["components"]["schemas"]

    def names(path: str, verb: str) -> dict[str, str]:
        answers = paths[path][verb]["responses"].items()
        found = {status: next(iter(answer.get("content", {"": {}}).values())) for status, answer in answers}
        return {status: each.get("schema", {}).get("$ref", "").rpartition("/")[2] for status, each in found.items()}

    assert names("/documents", "post") == {"202": "JobCreated", "400": "JobRefused", "413": "JobRefused"}
    assert names("/documents", "get") == {"200": "JobAnswer", "304": "", "404": "JobRefused", "410": "JobAnswer"}
    assert [each["required"] for each in paths["/documents"]["get"]["parameters"]] == [True]
    assert set(names("/documents", "patch")) == {"200", "202", "400", "413"}
    # One job: its result has a type.
    assert names("/own/{id}", "delete")["200"] == "WithOwnGetJobAnswer"
    result = schemas["WithOwnGetJobAnswer"]["properties"]["result"]
    assert (result["type"], result["additionalProperties"]) == ("object", {"type": "string"})
    # A get of its own keeps what it says.
    assert names("/own/{id}", "get") == {"200": "Wish"}
