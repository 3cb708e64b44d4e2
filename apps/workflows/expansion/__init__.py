"""One task becomes many items: `array`, `matrix`, `zip`, `custom`, and each item expanded again (`nested`).

    problems = validate(config, where)                               # before anything runs
    found = expand(config, data=task_document, context=values)       # when the step starts
    found.items[0].values                                            # {"input": "item1"}: what its templates may name

Pure: the same config and data give the same items, in the same order, with the same identifiers. Sizes are known and
compared with the limit before an item is made, so a product of 10^9 costs nothing but its refusal.
"""

from apps.workflows.expansion.expand import count, expand
from apps.workflows.expansion.items import BadExpansion, ExpandedItem, Expansion, TooManyItems, Work
from apps.workflows.expansion.shape import CONFIG_KEYS, OUTPUT_FORMATS, TYPES, item_variables, reads, sources, validate
from apps.workflows.expansion.sources import holds_list

__all__ = [
    "CONFIG_KEYS", "OUTPUT_FORMATS", "TYPES", "BadExpansion", "ExpandedItem", "Expansion", "TooManyItems", "Work",
    "count", "expand", "holds_list", "item_variables", "reads", "sources", "validate",
]  # fmt: skip
