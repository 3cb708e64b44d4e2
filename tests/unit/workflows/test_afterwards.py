"""What a worker has written beside it, when the session it belongs to is gone."""

from __future__ import annotations

import pytest

from apps.workflows.engine import afterwards, store


@pytest.mark.parametrize(("error", "said"), [(store.UnknownSession(key="acme/s1"), []), (ValueError("boom"), ["afterwards.failed"])])
def test_a_session_deleted_meanwhile_is_no_news_and_anything_else_is(caplog, monkeypatch, error, said):
    monkeypatch.setattr(afterwards, "close_old_connections", lambda: None)  # what other tests left to the thread is not ours to open

    def piece() -> None:
        raise error

    done = []
    afterwards.hand_over(piece)
    afterwards.hand_over(lambda: done.append(1))
    afterwards.begun()
    afterwards.settle()
    assert done == [1]
    assert [record.getMessage() for record in caplog.records] == said
