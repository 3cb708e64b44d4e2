"""Which files become tasks, and what must become of them."""

from __future__ import annotations

import os

import pytest

from demo.expected import Expected, Seen, differences, expected, reordering
from demo.files import OTHER, PROSE, PYTHON, NoFolder, entry_of, look, resolve


def names(folder):
    return [found.name for found in folder.files]


def test_every_regular_file_counts_and_made_folders_do_not(tmp_path):
    for path in ("b.py", "a/z.md", "a/.hidden", ".git/config", "node_modules/x.js", "env/pyvenv.cfg", "env/lib.py", "var/data"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "b.py")
    os.mkfifo(tmp_path / "pipe")
    folder = look(tmp_path, leave_out=tmp_path / "var")
    assert names(folder) == ["b.py", "a/.hidden", "a/z.md"]
    assert folder.passed_over == ["link: a link", "pipe: a special file"]


def test_a_job_space_follows_from_suffix_or_first_line(tmp_path):
    for name, content in {"a.py": "", "b.rst": "", "c.toml": "", "tool": "#!/usr/bin/env python3\n"}.items():
        (tmp_path / name).write_text(content)
    assert [found.space for found in look(tmp_path).files] == [PYTHON, PROSE, OTHER, PYTHON]


ODD_NAMES = [b"two words.txt", "Größe – März.md".encode(), b"line\nbreak.txt", b"\xff\xfe.bin", b"100%.txt", b"\x1b[31mred"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_printable_and_lead_back_to_the_very_file(tmp_path, name):
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(b"content")
    (found,) = look(tmp_path).files
    entry = entry_of(found, number=7, org_id="demo")
    assert found.name.isprintable()
    assert entry["task_id"].startswith("00007-")
    assert entry["task_id"].isascii()
    assert resolve(tmp_path.resolve(), entry["task_job_submission_data"]["relative"]).read_bytes() == b"content"


def test_a_missing_folder_or_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(NoFolder):
            look(path)


def status_of(tmp_path, name, content=b"text\n"):
    (tmp_path / name).write_bytes(content)
    return expected(look(tmp_path).files[0]).status


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("note.txt", b"Hello.\n", "completed"),
        ("note.txt", b"nul \0 byte", "rejected"),
        ("photo.png", b"text, but who would believe it", "rejected"),
        ("large.csv", b"x" * (64 * 1024 + 1), "rejected"),
        ("just.csv", b"x" * (64 * 1024), "completed"),
        ("site.pem", b"-", "rejected"),
        ("package-lock.json", b"{}", "rejected"),
        ("app.min.js", b"x", "rejected"),
        ("broken.py", b"def (", "failed"),
        ("latin1.txt", b"Gr\xdf", "failed"),
        ("latin1.cfg", b"Gr\xdf", "completed"),
    ],
)
def test_what_must_become_of_a_file(tmp_path, name, content, status):
    assert status_of(tmp_path, name, content) == status


RIGHT = Expected(status="completed", priority=10, agent="prose-reader", sha256="aa")


def test_an_answer_as_expected_has_no_differences():
    assert differences(RIGHT, Seen(status="completed", priority=10, agent="prose-reader", sha256="aa")) == []


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (None, "does not know"),
        (Seen(status="failed", priority=10, agent="prose-reader", sha256=""), "is failed, should be completed"),
        (Seen(status="completed", priority=11, agent="prose-reader", sha256="aa"), "priority 11"),
        (Seen(status="completed", priority=10, agent="secret-scanner", sha256="aa"), "went to secret-scanner"),
        (Seen(status="completed", priority=10, agent="prose-reader", sha256="bb"), "other bytes"),
    ],
)
def test_every_difference_is_told_in_a_sentence(seen, told):
    assert any(told in sentence for sentence in differences(RIGHT, seen))


def test_the_tasks_that_moved_most_are_shown_first_forward_then_back():
    moved = reordering(["a", "b", "c", "d", "e"], ["e", "b", "c", "d", "a"], count=2)
    assert moved == [("e", 5, 1), ("a", 1, 5)]
