"""The licences of what is installed, as SPDX writes them, and which of them we accept."""

from __future__ import annotations

import re
from importlib.metadata import Distribution

UNKNOWN = "LicenseRef-unknown"

NOTICE_AT_MOST = ("MIT", "MIT-0", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "PSF-2.0", "CC0-1.0")
ACCEPTED = {
    **dict.fromkeys(NOTICE_AT_MOST, "asks for its notice at most"),
    "LicenseRef-BSD": "two or three clauses, its metadata does not say; either is fine",
    "Apache-2.0": "asks for its notice, and gives patents",
    "MPL-2.0": "its own files stay open; we change none of them",
    "LGPL-3.0-only": "a library of its own that anybody may replace: imported, not changed, not built in",
    "LGPL-3.0-or-later": "the same",
}
"""Licence -> why it is fine beside code under any other."""

ACCEPTED_IN_TESTS = {
    "GPL-2.0-only": "a server in a process of its own, started by the tests alone and handed on to nobody",
    "CC-BY-4.0": "its documents",
}

NAMES = {
    "MIT License": "MIT",
    "The MIT License (MIT)": "MIT",
    "BSD": "LicenseRef-BSD",
    "BSD License": "LicenseRef-BSD",
    "New BSD": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD 2-Clause License": "BSD-2-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache 2 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "LGPLv3": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
}
"""What authors wrote before there was a field for SPDX -> SPDX."""

KNOWN = {*ACCEPTED, *ACCEPTED_IN_TESTS}
CLASSIFIER = re.compile(r"License :: (?:OSI Approved :: )?(?!OSI Approved)(.+)")


def licence_of(package: Distribution) -> str:
    """An SPDX expression; `UNKNOWN` where the metadata says nothing that we understand.

    The field made for it counts, then the first line of the old free field, then the classifiers, all of them together.
    """
    about = package.metadata
    if written := about.get("License-Expression"):
        return written
    first_line = (about.get("License") or "").strip().partition("\n")[0]
    if UNKNOWN not in (free := _spdx(first_line)):
        return free
    named = [_spdx(match[1]) for text in about.get_all("Classifier") or () if (match := CLASSIFIER.fullmatch(text))]
    return " AND ".join(dict.fromkeys(named)) or UNKNOWN


def _spdx(written: str) -> str:
    """`BSD 3-Clause OR Apache-2.0` -> `BSD-3-Clause OR Apache-2.0`."""
    parts = re.split(r"( OR | AND )", written)
    return "".join(part if part in (" OR ", " AND ") else _one(part.strip()) for part in parts)


def _one(name: str) -> str:
    return NAMES.get(name) or (name if name in KNOWN else UNKNOWN)


def accepted(expression: str, *, in_tests: bool = False) -> bool:
    """Whether everything that `AND` joins is accepted, and of what `OR` joins anything."""
    fine = KNOWN if in_tests else set(ACCEPTED)
    while inner := re.search(r"\(([^()]*)\)", expression):  # innermost brackets first; what they say becomes a licence or none
        expression = expression.replace(inner[0], "MIT" if accepted(inner[1], in_tests=in_tests) else UNKNOWN)
    return any(all(licence.strip() in fine for licence in choice.split(" AND ")) for choice in expression.split(" OR "))
