"""What a watcher sees of a session: the tree, in whatever room there is, and lines where nothing can be drawn."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from jobplatform_sdk.cli.screen import Screen
from jobplatform_sdk.cli.session_tree import Tree
from jobplatform_sdk.cli.sessions import _show, read_document
from jobplatform_sdk.client_sessions import SessionFollowing, SessionNews, read_session, read_step

NOON = "2026-11-22T12:00:00Z"


def session(status: str = "running", **more: Any) -> SessionNews:
    data = {"session_id": "s", "name": "Nightly", "status": status, "progress": 40, "created_at": NOON,
            "items": {"total": 10, "completed": 4, "failed": 1}, "steps": {"total": 3}, **more}  # fmt: skip
    return SessionNews(kind="session", session=read_session(data), data=data)


def step(path: str, status: str = "running", position: int = 0, **more: Any) -> SessionNews:
    data = {"path": path, "key": path.rpartition(".")[2], "parent": path.rpartition(".")[0], "kind": "step", "status": status,
            "position": position, "started_at": NOON, "counts": {"total": 10, "completed": 4, "failed": 1}, **more}  # fmt: skip
    return SessionNews(kind="step", step=read_step(data), data=data)


def group(path: str, status: str = "running", position: int = 0) -> SessionNews:
    return step(path, status, position, kind="group", counts={"total": 1})


def drawn(tree: Tree, *, room: int = 40, width: int = 110) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(tree.drawing(datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC), room=room, width=width))
    return out.getvalue()


def test_a_tree_shows_groups_steps_their_state_and_how_far_they_are():
    tree = Tree()
    for news in (session(), group("look", "completed"), step("look.files", "completed", 1), group("read", position=2),
                 step("read.all", position=3), step("read.late", "retrying", 4, reason="no answer", attempt=1)):  # fmt: skip
        tree.take(news)
    shown = drawn(tree)
    assert "Nightly" in shown and "40%" in shown and "4 of 10 items, 1 failed" in shown
    assert "✓ look" in shown and "  ✓ files" in shown and "  ▶ all" in shown
    assert "5/10 1 failed" in shown
    assert "attempt 2 soon: no answer" in shown


def test_where_there_is_little_room_what_is_done_or_waits_gives_way():
    tree = Tree()
    tree.take(session())
    tree.take(group("done", "completed"))
    for number in range(30):
        tree.take(step(f"done.s{number}", "completed", number + 1))
    tree.take(group("now", position=100))
    for number in range(30):
        tree.take(step(f"now.s{number}", "waiting", 101 + number))
    tree.take(step("now.busy", position=200))
    tree.take(step("now.broken", "failed", 201, reason="it broke"))
    lines = tree.lines(12)
    assert len(lines) <= 12
    shown = drawn(tree, room=12)
    assert "busy" in shown and "it broke" in shown and "30 waiting" in shown
    assert "30 completed" in shown


def test_names_of_others_cannot_move_the_cursor():
    tree = Tree()
    tree.take(session(name="a\x1b[2Jb"))
    tree.take(step("main.x", name="c\x1b]0;d", parent="", reason="e\rf", status="failed"))
    assert "\x1b" not in drawn(tree)


def test_without_a_terminal_each_move_is_a_line_and_for_programs_each_event_a_document():
    told = [session(), step("main.a", "waiting", parent=""), step("main.a", parent=""), step("main.a", parent=""),
            step("main.a", "completed", parent="", finished_at="2026-11-22T12:00:02Z")]  # fmt: skip
    out = io.StringIO()
    _show(iter(told), Tree(), Screen(out=out))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3  # the session, the step's start, its end: nothing is said twice
    assert lines[2].endswith("main.a  completed  4 of 10 items  2.00 s")
    out = io.StringIO()
    _show(iter(told), Tree(), Screen(json=True, out=out))
    assert out.getvalue().count('"event":"step"') == 4


def test_a_document_is_read_from_json_or_yaml_and_what_is_neither_is_said(tmp_path):
    for name, text in (("a.json", '{"tasks": []}'), ("a.yaml", "tasks: []"), ("a.yml", '{"tasks": []}')):
        (tmp_path / name).write_text(text)
        assert read_document(str(tmp_path / name)) == {"tasks": []}
    for name, text, why in (
        ("b.json", "tasks: []", "is not JSON"),
        ("b.yaml", "a: [", "is not YAML: line 1, column 5: "),
        ("c.yaml", "- a\n", "an object is expected"),
        ("d.yaml", "x: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("e.yaml", "x: {2026-11-22: 1}", "JSON does not have"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=why):
            read_document(str(tmp_path / name))


def test_a_stream_is_read_in_any_pieces_and_goes_on_after_the_last_move():
    following = SessionFollowing("s/1")
    assert following.call().path == "/api/v1/sessions/s%2F1/stream"
    raw = b'event: session\ndata: {"session_id": "s", "status": "running"}\n\n: beat\n\nid: abc\nevent: move\ndata: {"new": "x"}\n\n'
    found = [news for at in range(0, len(raw), 7) for news in following.take(raw[at : at + 7])]
    assert [news.kind for news in found] == ["session", "move"]
    assert following.call().headers["Last-Event-ID"] == "abc"
    assert not following.ended
    following.take(b'event: end\ndata: {"session_id": "s", "status": "completed"}\n\n')
    assert following.ended
