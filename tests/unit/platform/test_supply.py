"""What the platform is made of: locked, licensed, told of, and without secrets."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jobplatform import locks
from jobplatform.env import BASE_DIR
from supply.bill import bill
from supply.leaks import PATTERNS, leaks, tree
from supply.licences import UNKNOWN, accepted

PAIRS = {locks.RUNTIME: "requirements.txt", locks.DEVELOPMENT: "requirements-dev.txt", locks.TOOLS: "requirements-tools.txt"}


def asked_for(name: str) -> list[Requirement]:
    """What a file of requirements names, those it includes, and what our own package needs."""
    found = []
    for line in (BASE_DIR / name).read_text().splitlines():
        wanted = line.partition("#")[0].strip()
        if wanted.startswith("-r "):
            found += asked_for(wanted.removeprefix("-r ").strip())
        elif wanted.startswith("-e "):
            assert wanted == "-e ./sdk[yaml]"
            sdk = (BASE_DIR / "sdk" / "pyproject.toml").read_text()
            found += [Requirement(text) for text in re.findall(r'"([^"]+)"', re.search(r"\ndependencies = \[(.*)\]", sdk)[1])]
            found += [Requirement(text) for text in re.findall(r'"([^"]+)"', re.search(r"\nyaml = \[(.*)\]", sdk)[1])]
        elif wanted:
            found.append(Requirement(wanted))
    return found


@pytest.mark.parametrize("lock", PAIRS, ids=lambda lock: lock.name)
def test_every_lock_has_what_was_asked_for_exactly(lock):
    locked = locks.read(lock)
    for asked in asked_for(PAIRS[lock]):
        version = locked[canonicalize_name(asked.name)].version
        assert version in asked.specifier, f"{asked} is locked as {version}: make lock"


@pytest.mark.parametrize("lock", PAIRS, ids=lambda lock: lock.name)
def test_a_lock_names_versions_and_hashes_and_no_address(lock):
    for locked in locks.read(lock).values():
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in locked.hashes)
    text = lock.read_text()
    assert not re.search(r"://|git\+|--(?:extra-)?index-url|--find-links|--trusted-host|^-e", text, re.MULTILINE)
    assert [asked for asked in asked_for(PAIRS[lock]) if asked.url] == []


def test_what_runs_is_tested_as_it_runs():
    developed = locks.read(locks.DEVELOPMENT)
    assert {name: locked.version for name, locked in locks.read(locks.RUNTIME).items()}.items() <= {
        name: locked.version for name, locked in developed.items()
    }.items()


@pytest.mark.parametrize("line", ["a>=5.7 --hash=sha256:00", "a==5.7.0", "a @ git+https://example.org/a --hash=sha256:00"])
def test_a_lock_with_anything_looser_is_none(tmp_path, line):
    path = tmp_path / "some.lock"
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match="not an exact version with hashes"):
        locks.read(path)


def test_the_bill_names_all_that_is_locked_as_it_is_installed_under_a_licence_we_accept():
    made = bill()
    locked = {name: one.version for name, one in locks.read(locks.DEVELOPMENT).items() if one.here}
    assert {part["name"]: part["version"] for part in made["components"]} == locked
    refused = {
        part["name"]: part["licenses"][0]["expression"]
        for part in made["components"]
        if not accepted(part["licenses"][0]["expression"], in_tests=part["scope"] == "excluded")
    }
    assert refused == {}
    refs = {part["bom-ref"] for part in made["components"]}
    needs = {one["ref"]: set(one["dependsOn"]) for one in made["dependencies"]}
    assert needs.keys() - refs == {"jobplatform"}
    assert set.union(*needs.values()) <= refs
    # What runs needs nothing that only the tests were meant to have.
    runs = {part["bom-ref"] for part in made["components"] if part["scope"] == "required"}
    assert needs["jobplatform"] == runs
    assert set.union(*(needs[ref] for ref in runs)) <= runs


@pytest.mark.parametrize(
    ("expression", "runs", "in_tests"),
    [
        ("MIT", True, True),
        ("GPL-2.0-only", False, True),
        ("GPL-2.0-only OR MIT", True, True),
        ("GPL-2.0-only AND MIT", False, True),
        ("MPL-2.0 AND (Apache-2.0 OR AGPL-3.0-only)", True, True),
        ("MPL-2.0 AND (AGPL-3.0-only OR SSPL-1.0)", False, False),
        ("AGPL-3.0-only", False, False),
        (UNKNOWN, False, False),
    ],
)
def test_a_licence_is_accepted_for_what_it_is_used_for(expression, runs, in_tests):
    assert accepted(expression) is runs
    assert accepted(expression, in_tests=True) is in_tests


A_SECRET = {
    "private key": "-----BEGIN RSA PRIVATE" + " KEY-----\n" + "MIIEpAIBAAKCAQEA7bq1",
    "AWS key": "AKIA" + "QWERTYUIOPASDFG7",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "GitLab token": "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "Slack token": "xoxb-" + "123456789012-abcdef",
    "Stripe key": "sk_live_" + "a1B2c3D4e5F6g7H8i9J0",
    "Google key": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "model provider's key": "sk-ant-" + "api03-a1B2c3D4e5F6g7H8i9J0k1L2m3N4",
    "package index token": "pypi-AgE" + "IcHlwaS5vcmcCJDNlYzc3",
    "JWT": "eyJ" + "hbGciOiJIUzI1NiIsInR5cCI6.eyJ" + "zdWIiOiIxMjM0NTY3ODkw.SflKxwRJSMeKKF2QT4fwpMeJf36P",
    "NATS seed": "SUA" + "BCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKLMNOPQRSTUVWX",
    "key of this platform": "jp_" + "a1b2c3d4_" + "q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6j7K8l9Z0x1C2",
    "webhook secret": "whsec_" + "q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6",
    "password in an address": "postgres://me:" + "q1W2e3R4t5Y6@db/x",
    "password": 'SECRET_KEY = "' + 'q1W2e3R4t5Y6u7I8o9P0a1S2d3F4"',
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_planted_secret_is_found_and_not_repeated(kind):
    (leak,) = (one for one in leaks([("some/file", f"first line\n{A_SECRET[kind]}\n")]) if one.kind == kind)
    assert leak.place == "some/file:2"
    assert A_SECRET[kind][10:] not in repr(leak)


def test_no_tracked_file_holds_a_secret():
    if not (BASE_DIR / ".git").exists():
        pytest.skip("no checkout of git, so nothing is tracked")
    assert list(leaks(tree())) == []
