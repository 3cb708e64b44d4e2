"""What the README says is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from apps.orgs import config_keys
from jobplatform import env

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "sdk" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def table(*rows):
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def environment_table():
    rows = ((f"`{one.name}`", f"`{one.default}`" if one.default else "", one.meaning) for one in env.VARIABLES)
    return table(("variable", "default", "meaning"), ("---", "---", "---"), *rows)


def org_config_table():
    rows = ((f"`{key.name}`", key.rule.type, f"`{json.dumps(key.default)}`", key.meaning) for key in config_keys.TABLE.values())
    return table(("key", "value", "default", "meaning"), ("---", "---", "---", "---"), *rows)


@pytest.mark.parametrize("wanted", [environment_table, org_config_table])
def test_the_configuration_tables_are_those_of_the_code(wanted):
    assert wanted() in README, f"README.md should hold:\n{wanted()}"


@pytest.mark.parametrize("name", ["word_counter.py", "no_essays.star", "count_lines.yaml"])
def test_the_examples_are_shown_as_they_are(name):
    language = "yaml" if name.endswith(".yaml") else "python"
    assert f"```{language}\n{(ROOT / 'examples' / name).read_text()}```" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    assert [page.name for page in sorted(folder.glob("*.md")) if page.name != "README.md" and f"({page.name})" not in index] == []
