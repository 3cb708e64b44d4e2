"""The examples of the second specification, verbatim."""

from __future__ import annotations

# The document's example of each kind: its JSON, and what the comment below it says it expands to.
ARRAY = {
    "input_array": ["item1", "item2", "item3"],
    "expansion_config": {"type": "array", "array_mapping": {"input": "input_array"}, "output_format": "separate"},
}
OBJECTS = {
    "users": [
        {"id": 1, "name": "Alice", "role": "admin"},
        {"id": 2, "name": "Bob", "role": "user"},
        {"id": 3, "name": "Carol", "role": "user"},
    ],
    "expansion_config": {"type": "array", "array_mapping": {"user": "users"}, "output_format": "separate"},
}
MATRIX = {
    "rows": ["A", "B"],
    "cols": [1, 2, 3],
    "expansion_config": {"type": "matrix", "array_mapping": {"row": "rows", "col": "cols"}},
}
CUSTOM = {
    "data": {"regions": ["US", "EU"], "years": [2022, 2023], "metrics": ["sales", "growth"]},
    "expansion_config": {"type": "custom", "transform_rules": {"combine": ["regions", "metrics"], "filter": {"years": ">2021"}}},
}
