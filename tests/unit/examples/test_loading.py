"""Files of every kind to blocks and chunks: what is on the page, in its order, with its place."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.jobs import loading
from examples.jobs.chunking import chunks, sentences
from examples.jobs.loading import Block, Unreadable, load
from jobplatform.env import BASE_DIR

SAMPLES = BASE_DIR / "examples" / "jobs" / "samples"


def sample(name: str) -> list[Block]:
    return load(name, (SAMPLES / name).read_bytes())


def docx_of(**parts: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return packed.getvalue()


def test_a_pdf_has_its_articles_with_their_pages_across_the_turn_of_a_page():
    blocks = sample("human_rights.pdf")
    assert {block.heading for block in blocks} >= {f"Article {number}" for number in range(1, 31)}
    twelfth = " ".join(block.text for block in blocks if block.heading == "Article 12")
    assert twelfth.startswith("No one shall be subjected to arbitrary interference")
    assert twelfth.endswith("the protection of the law against such interference or attacks.")  # the page turns within it
    assert [block.page for block in blocks] == sorted(block.page for block in blocks)
    assert {block.page for block in blocks} == set(range(1, 7))


def test_a_docx_has_its_headings_and_each_row_of_a_table_says_what_it_is():
    blocks = sample("planets.docx")
    assert [block.heading for block in blocks][1:4] == ["Mercury", "Venus", "Earth"]
    rows = [block.text for block in blocks if block.heading == "The planets in figures"]
    assert len(rows) == 8
    assert rows[4].startswith("Planet: Jupiter; Diameter (km): 142,984; Distance from the Sun (million km): 778.6;")


def test_a_text_has_its_headings_in_capitals_or_in_markdown():
    fables = sample("fables.txt")
    assert {block.heading for block in fables} >= {"THE CROW AND THE PITCHER", "BELLING THE CAT"}
    page = "# Top\n\nFirst\nline.\n\n## Below ##\nSecond.\n"
    assert load("a.MD", page.encode()) == [Block(text="First line.", heading="Top"), Block(text="Second.", heading="Below")]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        pytest.param("a.exe", b"MZ", "must end in one of .docx, .md, .pdf, .txt", id="another kind"),
        pytest.param("noname", b"text", "must end in", id="no ending"),
        pytest.param("a.pdf", b"not one", "is not a PDF", id="no pdf"),
        pytest.param("a.pdf", (SAMPLES / "human_rights.pdf").read_bytes()[:3000], "is not a PDF|no text", id="half a pdf"),
        pytest.param("a.docx", b"PK\3\4broken", "is not a DOCX", id="no zip"),
        pytest.param("a.docx", docx_of(a=b"x"), "is not a DOCX", id="a zip of something else"),
        pytest.param("a.txt", b"a\0b", "is not a text", id="bytes"),
        pytest.param("a.txt", b" \n\n", "no text in it", id="empty"),
        pytest.param("a.txt", b"x" * (loading.BYTES_MAX + 1), "larger than 20 MB", id="too large"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(name, data, reason):
    with pytest.raises(Unreadable, match=reason):
        load(name, data)


@pytest.mark.parametrize("name", ["human_rights.pdf", "planets.docx"])
def test_a_file_broken_in_any_way_is_read_or_refused_and_nothing_else(name, caplog):
    caplog.set_level("CRITICAL", logger="pypdf")
    whole, random = (SAMPLES / name).read_bytes(), Random(name)
    for number in range(12):
        broken = bytearray(whole[: random.randrange(1, len(whole))] if number % 3 == 0 else whole)
        for _ in range(random.choice([1, 5, 50])):
            broken[random.randrange(len(broken))] = random.randrange(256)
        try:
            assert load(name, bytes(broken))
        except Unreadable as refused:
            assert str(refused)


def test_a_small_file_that_unpacks_into_a_very_large_one_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(loading, "UNPACKED_MAX", 1_000_000)
    bomb = docx_of(word=b"\0" * 2_000_000)
    assert len(bomb) < 10_000
    with pytest.raises(Unreadable, match="once unpacked"):
        load("bomb.docx", bomb)


def test_a_chunk_stays_under_its_heading_and_neighbours_share_a_sentence():
    blocks = [Block(text="One two. Three four. Five six.", heading="A", page=1), Block(text="Seven.", heading="B", page=2)]
    found = chunks(blocks, characters=22)
    assert [(chunk.text, chunk.heading, chunk.page) for chunk in found] == [
        ("One two. Three four.", "A", 1),
        ("Three four. Five six.", "A", 1),
        ("Seven.", "B", 2),
    ]
    assert [chunk.number for chunk in found] == [0, 1, 2]
    assert found[2].to_embed == "B. Seven."


@settings(max_examples=40)
@given(st.lists(st.text(alphabet="ab .!?\n1", max_size=80).map(lambda text: Block(text=" ".join(text.split()))), max_size=8))
def test_chunks_lose_nothing_and_none_is_too_long(blocks):
    found = chunks(blocks, characters=30)
    assert all(0 < len(chunk.text) <= 30 for chunk in found)
    assert {word for block in blocks for word in block.text.split() if len(word) <= 30} <= {
        w for chunk in found for w in chunk.text.split()
    }


def test_numbers_of_a_list_stay_with_what_they_number():
    assert sentences('1. Everyone may. 2. "No one must." So it is in 1948. Yes!') == [
        "1. Everyone may.", '2. "No one must."', "So it is in 1948.", "Yes!"
    ]  # fmt: skip


def test_the_samples_are_small():
    assert sum(path.stat().st_size for path in Path(SAMPLES).iterdir()) < 80_000
