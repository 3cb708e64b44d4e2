"""jobctl as a citizen of the command line: errors, help, terminals, pipes, and text that others wrote."""

from __future__ import annotations

import subprocess

import pytest

from jobplatform_sdk.cli.main import COMMANDS
from tests.unit.sdk_client.cli_kit import (
    EVIL,
    FINE,
    HISTORY,
    LINES,
    NOT_COMPLETED,
    REFUSED,
    SUMMARY,
    UNREACHABLE,
    USAGE,
    command,
    documents,
    environment,
    in_terminal,
    moved,
    task,
)
from tests.unit.sdk_client.conftest import KEY
from tests.unit.sdk_client.test_client_bulk import accept
from tests.unit.sdk_client.wire_server import Reply, Stream, event, problem


def test_a_no_names_every_field(jobctl, server):
    wrong = [
        {"field": "task_goal", "code": "empty", "message": "must not be empty"},
        {"field": "task_id", "code": "bad_id", "message": "is odd"},
    ]
    server.will(*[problem(422, "invalid", "The input is not valid.", errors=wrong)] * 2)
    status, out, err = jobctl("submit", "--goal", "", "--intent", "i")
    assert (status, out) == (REFUSED, "")
    assert err == "jobctl: The input is not valid.\n  task_goal: must not be empty\n  task_id: is odd\n"
    status, out, err = jobctl("submit", "--goal", "", "--intent", "i", "--json")
    [document] = documents(out)
    assert (status, document["error"]["code"], document["error"]["errors"]) == (REFUSED, "invalid", wrong)


def test_an_unknown_task_is_named(jobctl, server):
    server.will(problem(404, "not_found", "Not found."))
    assert jobctl("show", "nope") == (REFUSED, "", "jobctl: nope: Not found.\n")


@pytest.mark.parametrize("arguments", [("tasks",), ("watch",), ("bulk", "/dev/null")])
def test_nobody_there_is_said_soon(jobctl, server, arguments):
    server.stop()
    status, out, err = jobctl(*arguments)
    assert (status, out) == (UNREACHABLE, "")
    assert "Cannot connect to http://127.0.0.1:" in err


def test_something_else_there(jobctl, server):
    server.will(Reply(404, b"<html>", {"Content-Type": "text/html"}))
    status, _, err = jobctl("tasks")
    assert status == UNREACHABLE and "not the platform" in err


def test_a_platform_in_trouble_gives_the_id_to_ask_about(jobctl, server):
    server.will(*[problem(500, "error", "Something went wrong.")] * 3)
    status, _, err = jobctl("tasks")
    assert (status, err) == (UNREACHABLE, "jobctl: Something went wrong.\n  request id: r-1\n")


def test_without_an_address_it_asks_for_one(jobctl, monkeypatch):
    monkeypatch.delenv("JOBPLATFORM_URL")
    status, _, err = jobctl("tasks")
    assert status == USAGE and "JOBPLATFORM_URL" in err


def test_address_and_key_may_stand_on_either_side_of_the_command(jobctl, server, monkeypatch):
    monkeypatch.delenv("JOBPLATFORM_URL")
    server.will(*[Reply(200, {"items": []})] * 2)
    assert jobctl("--url", server.url, "tasks")[0] == FINE
    assert jobctl("--url", "http://127.0.0.1:1", "tasks", "--url", server.url, "--api-key", "jp_other_x")[0] == FINE
    assert [seen.headers["authorization"] for seen in server.seen] == [f"Bearer {KEY}", "Bearer jp_other_x"]


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_explains_itself_with_an_example(jobctl, verb):
    status, out, _ = jobctl(verb, "--help")
    assert status == FINE
    assert f"jobctl {verb}" in out.partition("the platform:")[2] and "JOBPLATFORM_URL" in out
    assert verb in jobctl("--help")[1]


@pytest.mark.parametrize(("command", "none"), [("sessions", "no sessions"), ("jobs", "no jobs"), ("schedule", "no schedules")])
def test_without_a_verb_a_command_lists(jobctl, server, command, none):
    server.will(*[Reply(200, {"items": []})] * 2)
    assert jobctl(command) == (FINE, "", f"jobctl: {none}\n")
    assert jobctl(command, "list") == (FINE, "", f"jobctl: {none}\n")


def test_what_was_mistyped_is_guessed(jobctl):
    lists = "--help lists what there is.\n"
    assert jobctl("submti") == (USAGE, "", f"jobctl: there is no 'submti'; did you mean submit? jobctl {lists}")
    assert jobctl("jobs", "lsit") == (USAGE, "", f"jobctl jobs: there is no 'lsit'; did you mean list? jobctl jobs {lists}")
    status, _, err = jobctl("tasks", "--since", "yesterday")
    assert status == USAGE
    assert err.endswith("--since: 'yesterday' is not a time such as 2026-11-22T10:00, or an age such as 90s, 15m, 24h, 7d\n")


def test_a_shell_completes_commands_verbs_and_options(jobctl, tmp_path):
    """In bash itself, which asks our function as it does when somebody presses the key."""
    script = tmp_path / "completion"
    script.write_text(jobctl("completion")[1])
    press = 'COMP_WORDS=(jobctl "$@"); COMP_CWORD=$#; _jobctl; echo "${COMPREPLY[*]}"'
    typed = {
        "se": "sessions",
        "sessions r": "run results resume retry rerun",
        "sessions run --de": "--detach",
        "--json webhooks l": "list log",
    }
    lines = [f"press() {{ {press}; }}", f". {script}", *(f"press {words}" for words in typed)]
    found = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.splitlines() == [*typed.values()]


def unharmed(out):
    return not any(character in out for character in "\x1b\x9b\u202e\x07\r")


def test_text_of_others_cannot_speak_to_the_terminal(jobctl, server):
    bad = task("t1", "completed", goal=EVIL, intent=EVIL, agent=EVIL, reason=EVIL, progress_message=EVIL, result={EVIL: EVIL})
    history = {
        "items": [
            {"kind": EVIL, "at": None, "x": EVIL},
            *({**item, "reason": EVIL, "because": EVIL, "agent": EVIL} for item in HISTORY["items"]),
        ]
    }
    server.will(
        Reply(201, bad), Reply(200, {"items": [bad]}), Reply(200, bad), Reply(200, history), Stream([event("task", bad)]), Reply(200, bad),
        problem(404, EVIL, EVIL, request_id=EVIL, errors=[{"field": EVIL, "code": "x", "message": EVIL}]),
    )  # fmt: skip
    for arguments in (
        ("submit", "--goal", "g", "--intent", "i"), ("tasks",), ("show", "t1"), ("watch", "t1"), ("cancel", "t1"), ("show", "t1"),
    ):  # fmt: skip
        _, out, err = jobctl(*arguments)
        assert "gone" in out + err or arguments[0] == "cancel"
        assert unharmed(out + err), arguments


def test_json_says_the_same_text_escaped(jobctl, server):
    server.will(Reply(200, {"items": [task("t1", goal=EVIL)]}))
    _, out, _ = jobctl("tasks", "--json")
    assert unharmed(out)
    assert documents(out)[0]["goal"] == EVIL


def test_in_a_terminal_one_task_is_a_bar_that_moves(server):
    progress = event("progress", {"task_id": "t1", "percent": 40, "message": EVIL})
    server.will(
        Stream([event("task", task()), moved("t1", "running", event_id="1", agent="ada"), progress, moved("t1", "completed", event_id="2")])
    )
    status, screen = in_terminal(server, "watch", "t1")
    assert status == FINE
    assert "━" in screen and "completed" in screen and "100%" in screen
    assert "\x1b[2J" not in screen and "\x9b" not in screen and "\u202e" not in screen


def test_in_a_terminal_several_are_a_table_that_fits(server):
    rows = [task("t1", "running", agent="ada", progress=30), task("t2", "awaiting_approval"), task("a-task-id-" + "x" * 100, "completed")]
    server.will(Stream([SUMMARY, moved("t1", "completed"), moved("t2", "rejected", reason="no" * 200)]))
    server.script += [lambda handler, seen: Reply(200, next(row for row in rows if seen.path.endswith(row["task_id"])))(handler, seen)] * 3
    status, screen = in_terminal(server, "watch", *(row["task_id"] for row in rows))
    assert status == NOT_COMPLETED
    assert "3 of 3 ended" in screen and "rejected" in screen and "…" in screen


def test_bulk_in_a_terminal_shows_its_progress_and_cleans_up(server, tmp_path):
    (tmp_path / "b").write_bytes(LINES.splitlines(keepends=True)[0])
    server.will(accept)
    status, screen = in_terminal(server, "bulk", str(tmp_path / "b"))
    assert status == FINE
    assert "1 sent  1 accepted" in screen and screen.rstrip().endswith(": 1 accepted")


def test_a_reader_who_has_enough_is_no_error(server):
    server.will(*[Reply(200, {"items": [task(f"t{number}") for number in range(200)], "next_cursor": "c"})] * 50)
    pipe = subprocess.PIPE
    with subprocess.Popen(command("tasks", "--json", "--limit", "0"), stdout=pipe, stderr=pipe, env=environment(server)) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141
