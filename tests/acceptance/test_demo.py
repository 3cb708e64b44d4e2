"""`make demo` and `make bench`, as people run them: whole processes, from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.services import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "examples" / "sample_files"


def started(*arguments):
    argv = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_parent)


def run(*arguments):
    process = started(*arguments)
    output, _ = process.communicate()
    return process.returncode, output


@pytest.mark.acceptance
def test_the_demo_of_odd_files_ends_with_status_0_and_every_decision_explained(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    for sample in SAMPLES.iterdir():
        (folder / sample.name).write_bytes(sample.read_bytes())
    (folder / "line\nbreak.txt").write_text("One line. Another line.\n")
    with open(os.fsencode(folder) + b"/\xff\xfe.cfg", "wb") as file:
        file.write(b"name = value\n")
    (folder / "link").symlink_to("nowhere")

    status, output = run("-m", "demo", "--dir", folder, "--data", tmp_path / "data", "--exit")

    assert status == 0, output
    assert "\x1b" not in output
    assert "link: a link" in output
    assert "✗ is a binary file" in output
    assert "looks like a private" in output
    assert "is too large" in output
    assert "failed: not Python" in output
    assert "1 × AWS access key" in output
    assert "line\\nbreak.txt" in output
    assert "Every task ended as it should: 5 completed, 2 failed, 4 rejected." in output
    assert "1 package, 4 checks, 4 findings" in output
    assert "1 package × 4 checks, each item a row." in output


@pytest.mark.acceptance
def test_ctrl_c_ends_a_demo_that_stays_and_everything_it_started(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "one.txt").write_text("One line.\n")
    process = started("-m", "demo", "--dir", folder, "--data", tmp_path / "data")
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "Ctrl-C stops everything" in line:
            break
    assert seen and "Ctrl-C" in seen[-1], "".join(seen)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 8

    process.send_signal(signal.SIGINT)
    process.communicate()

    assert process.returncode == 0
    assert [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert any("login demo, password" in line for line in seen)


def test_a_missing_folder_is_status_2_and_an_empty_one_nothing_to_do(tmp_path):
    status, output = run("-m", "demo", "--dir", tmp_path / "gone", "--exit")
    assert (status, "Cannot look at" in output) == (2, True)
    (tmp_path / "empty").mkdir()
    status, output = run("-m", "demo", "--dir", tmp_path / "empty", "--exit")
    assert (status, "nothing to do" in output) == (0, True)


@pytest.mark.acceptance
def test_a_small_bench_measures_and_writes_it_down(tmp_path):
    parts = ("throughput", "latency", "depth", "fanout")
    small = {"repeats": 1, "tasks": 100, "celery-tasks": 50, "depths": 50, "depth-tasks": 50, "seconds": 1, "fans": 20}
    status, output = run("-m", "bench", *parts, "--data", tmp_path, *(word for name, size in small.items() for word in (f"--{name}", size)))
    assert status == 0, output
    figures = json.loads((tmp_path / "latest.json").read_text())
    assert set(figures) >= {*parts, "settings"}
    assert figures["fanout"]["fans"][0]["raw_seconds"] > 0
    assert figures["latency"]["submissions"] == 50
    assert [line["queued"] for line in figures["depth"]["depths"]] == [50]
    assert "raw Celery, 2 workers, prefork" in output
