import io
import os

import pytest

from jobplatform.embedded import console as console_module
from jobplatform.embedded.console import Console, LogFile


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as out:
        yield reader, out
    os.close(reader)


def test_each_line_says_whose_it_is_and_is_kept_in_a_file_of_its_own(tmp_path, pipe):
    reader, out = pipe
    console = Console(tmp_path, ["web", "dispatch-1"], out=out)
    console.lines("web", ["one", "", "two"])
    console.lines("dispatch-1", ["three"])
    console.plain("READY http://127.0.0.1:1")
    console.close()
    assert os.read(reader, 9999).decode() == "web        │ one\nweb        │ two\ndispatch-1 │ three\nREADY http://127.0.0.1:1\n"
    assert (tmp_path / "web.log").read_text() == "one\n\ntwo\n"


def test_chatter_goes_to_the_file_only(tmp_path, pipe):
    reader, out = pipe
    console = Console(tmp_path, ["nats"], out=out)
    console.lines("nats", ["[INF] fine", "[WRN] odd"], chatter=("[INF]",))
    console.close()
    assert os.read(reader, 9999).decode() == "nats │ [WRN] odd\n"
    assert (tmp_path / "nats.log").read_text() == "[INF] fine\n[WRN] odd\n"


def test_a_reader_that_does_not_read_stops_nobody(tmp_path, pipe):
    reader, out = pipe
    console = Console(tmp_path, ["web"], out=out)
    for _ in range(1000):
        console.lines("web", ["x" * 1000])  # far more than a pipe holds: this returns all the same
    while os.read(reader, 1 << 16):
        if not console_module.select.select([reader], [], [], 0)[0]:
            break
    console.lines("web", ["after"])
    console.close()
    assert os.read(reader, 9999).decode().splitlines()[-1] == "web │ after"
    assert (tmp_path / "web.log").stat().st_size == 1000 * 1001 + len("after\n")


def test_a_reader_that_went_away_stops_nobody(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        console = Console(tmp_path, ["web"], out=out)
        console.lines("web", ["one"])
        console.lines("web", ["two"])
        console.close()
    assert (tmp_path / "web.log").read_text() == "one\ntwo\n"


def test_a_large_log_file_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(console_module, "ROTATE_BYTES", 10)
    file = LogFile(tmp_path / "web.log")
    for line in ("first line\n", "second\n", "third\n"):
        file.write(line)
    file.close()
    assert (tmp_path / "web.log.1").read_text() == "first line\n"
    assert (tmp_path / "web.log").read_text() == "second\nthird\n"


def test_colours_are_for_terminals(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            return writer

    reader, writer = os.pipe()
    console = Console(tmp_path, ["web"], out=Terminal())
    console.lines("web", ["one"])
    console.close()
    assert os.read(reader, 999).decode() == "\x1b[36mweb │\x1b[0m one\n"
    os.close(reader)
    os.close(writer)
