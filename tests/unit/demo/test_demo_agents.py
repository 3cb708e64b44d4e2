"""What the demo's agents find in files, without any platform."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from demo.agents import prose, python_metrics, secret_scanner
from demo.agents.runtime import CannotAnalyse, answer

HERE = Path("/folder/file")
ROOT = Path("/folder")

SOURCE = b'''"""A module."""

def plain():
    return 1

class Shop:
    """Sells."""

    def price(self, item, discount=None):
        """Of one item."""
        if item is None and discount:
            return 0
        for step in range(3):
            if step == item or step > 2 or step < 0:
                return [s for s in range(step) if s]
        return item if discount else 1

    def _hidden(self):
        def inner():
            return 2
        return inner
'''


def test_python_metrics_count_functions_forks_and_docstrings():
    figures = python_metrics.analyse(SOURCE, HERE, ROOT)
    assert (figures["functions"], figures["classes"]) == (4, 1)
    # 1, if, and, for, if, two ors, comprehension and its if, conditional expression
    assert figures["most_complex"] == {"name": "Shop.price", "line": 9, "complexity": 10}
    assert figures["longest"]["name"] == "Shop.price"
    assert figures["documented_percent"] == 60  # the module, Shop and price; not plain and inner
    assert "most complex Shop.price (10)" in figures["summary"]


def test_an_empty_module_has_no_function_and_one_thing_to_document():
    figures = python_metrics.analyse(b"", HERE, ROOT)
    assert (figures["lines"], figures["functions"], figures["documented_percent"], figures["longest"]) == (0, 0, 0, None)


@pytest.mark.parametrize("source", [b"def broken(:\n    pass\n", b"x = 'caf\xe9'\n", b"x = 1\0"])
def test_what_python_would_not_compile_is_refused_with_its_reason(source):
    with pytest.raises(CannotAnalyse, match="not Python"):
        python_metrics.analyse(source, HERE, ROOT)


def test_prose_is_counted_without_its_code_and_broken_links_are_named(tmp_path):
    (tmp_path / "there.md").write_text("x")
    text = b"""# First steps

Short words. See [this](there.md), [that](gone.md), [here](#first-steps), [nowhere](#last-steps) and [the web](https://example.org/x).

```python
these_words(are, not_prose)
```

[note]: gone.txt
"""
    figures = prose.analyse(text, tmp_path / "page.md", tmp_path)
    assert figures["headings"] == ["First steps"]
    assert figures["links"] == 6
    assert figures["broken_links"] == ["gone.md", "#last-steps", "gone.txt"]
    assert figures["words"] < 20
    assert "3 broken" in figures["summary"]


def test_short_sentences_of_short_words_are_easier_than_long_ones():
    easy = prose.analyse(b"The cat sat on the mat. It was a good cat. We like it.", HERE, ROOT)
    hard = prose.analyse(b"Organizational interoperability necessitates comprehensive administrative documentation procedures.", HERE, ROOT)
    assert easy["reading_ease"] > 90 > 10 > hard["reading_ease"]


def test_prose_that_is_not_utf8_is_refused_with_the_place():
    with pytest.raises(CannotAnalyse, match="byte 2 is 0xdf"):
        prose.analyse(b"Gr\xdf", HERE, ROOT)


def test_prose_without_words_has_no_readability():
    assert prose.analyse(b"***\n", HERE, ROOT)["reading_ease"] is None


SECRETS = {
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "AWS access key": "id AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "password in a URL": "postgres://app:" + "s3cretpass@db/prod",
    "random value": 'api_key = "' + 'q8Zt-41Lw_x7Rk29"',
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_and_never_repeated_whole(kind):
    figures = secret_scanner.analyse(f"# nothing here\n{SECRETS[kind]}\n".encode(), HERE, ROOT)
    (finding,) = figures["findings"]
    assert (finding["kind"], finding["line"]) == (kind, 2)
    secret = secret_scanner.secrets_in(SECRETS[kind])[0][1]
    assert secret not in str(figures)


@pytest.mark.parametrize("line", ["password = getpass()", "token: the word we agreed on", "secret = ${SECRET_FROM_ENV}", "key = value", ""])
def test_ordinary_lines_hide_no_secret(line):
    assert secret_scanner.secrets_in(line) == []


def test_an_answer_proves_which_bytes_were_read(tmp_path):
    (tmp_path / "a b\n.txt").write_bytes(b"Hello there.")
    figures = answer(prose.analyse, tmp_path, "a%20b%0A.txt")
    assert figures["bytes"] == 12
    assert figures["sha256"] == hashlib.sha256(b"Hello there.").hexdigest()


@pytest.mark.parametrize("relative", ["../outside.txt", "gone.txt", "%00"])
def test_a_file_that_is_gone_or_outside_the_folder_is_a_failure_not_a_crash(tmp_path, relative):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("secret")
    with pytest.raises(CannotAnalyse):
        answer(prose.analyse, folder, relative)
