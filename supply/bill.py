"""`make bill`: what is installed here, by the locks, with licences and who needs whom, as CycloneDX 1.6.

The same packages make the same bytes: it has no date and no number of its own.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from importlib.metadata import Distribution, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jobplatform import locks
from jobplatform.env import BASE_DIR, data_dir
from supply.licences import accepted, licence_of

PLATFORM = "jobplatform"


def bill() -> dict[str, Any]:
    """Raises PackageNotFoundError when something that the locks want here is not installed."""
    running = locks.read(locks.RUNTIME)
    wanted = {name: locked for name, locked in locks.read(locks.DEVELOPMENT).items() if locked.here}
    packages = {name: distribution(name) for name in sorted(wanted)}
    version = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": PLATFORM, "name": PLATFORM, "version": version}},
        "components": [_component(name, package, runs=name in running) for name, package in packages.items()],
        "dependencies": [
            {"ref": PLATFORM, "dependsOn": [_ref(name, packages[name]) for name in packages if name in running]},
            *({"ref": _ref(name, package), "dependsOn": _needs(package, packages)} for name, package in packages.items()),
        ],
    }


def _component(name: str, package: Distribution, *, runs: bool) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": _ref(name, package),
        "name": name,
        "version": package.version,
        "purl": _ref(name, package),
        "licenses": [{"expression": licence_of(package)}],
        # CycloneDX's word for what only development and tests use.
        "scope": "required" if runs else "excluded",
    }


def _ref(name: str, package: Distribution) -> str:
    return f"pkg:pypi/{name}@{package.version}"


def _needs(package: Distribution, packages: dict[str, Distribution]) -> list[str]:
    wanted = [Requirement(text) for text in package.requires or ()]
    names = {canonicalize_name(one.name) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}
    return [_ref(name, packages[name]) for name in sorted(names & packages.keys())]


def main() -> int:
    made = bill()
    path = data_dir() / "bill.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n")
    licences = Counter((part["licenses"][0]["expression"], part["scope"] != "required") for part in made["components"])
    for (licence, in_tests), count in licences.most_common():
        where = "in tests only" if in_tests else "runs"
        print(f"{count:4}  {licence:50} {where:14}{'' if accepted(licence, in_tests=in_tests) else ' NOT ACCEPTED'}")
    print(f"{len(made['components'])} packages: {path}")
    return int(not all(accepted(licence, in_tests=in_tests) for licence, in_tests in licences))


if __name__ == "__main__":
    sys.exit(main())
