"""Item sizes and capacity units by AWS's rules.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html: a write unit is 1 KB of
the larger of the item before and after, a read unit 4 KB, half of one when the read is eventually consistent. Every
index is a table of its own: an entry that appears or goes costs a write, one whose key changes costs two.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Item = Mapping[str, Mapping[str, Any]]

_WRITE_UNIT = 1024
_READ_UNIT = 4096
_COLLECTION_OVERHEAD = 3
_ELEMENT_OVERHEAD = 1


def item_bytes(item: Item | None) -> int:
    """Return the size of an item: the names and the values of its attributes."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in (item or {}).items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return _number_bytes(content)
        case "B":
            return _binary_bytes(content)
        case "SS":
            return sum(len(element.encode()) for element in content)
        case "NS":
            return sum(_number_bytes(element) for element in content)
        case "BS":
            return sum(_binary_bytes(element) for element in content)
        case "L":
            return _COLLECTION_OVERHEAD + sum(_ELEMENT_OVERHEAD + _value_bytes(element) for element in content)
        case "M":
            elements = (_ELEMENT_OVERHEAD + len(name.encode()) + _value_bytes(v) for name, v in content.items())
            return _COLLECTION_OVERHEAD + sum(elements)
        case _:
            return 1


def _binary_bytes(content: str | bytes) -> int:
    return len(base64.b64decode(content)) if isinstance(content, str) else len(content)


def _number_bytes(text: str) -> int:
    number = Decimal(text).normalize()
    digits = len(number.as_tuple().digits)
    return math.ceil(digits / 2) + 1 + (1 if number < 0 else 0)


@dataclass(frozen=True)
class Index:
    """What decides which entry an item has in an index: its keys, and what is projected (None: everything)."""

    name: str
    keys: tuple[str, ...]
    projected: frozenset[str] | None

    def entry(self, item: Item | None) -> dict[str, Mapping[str, Any]] | None:
        """Return the item's entry in this index, None when it has none."""
        if item is None or any(key not in item for key in self.keys):
            return None
        return {n: v for n, v in item.items() if self.projected is None or n in self.projected}


def write_units(old: Item | None, new: Item | None) -> int:
    """Return what a write to the table costs, whether or not its condition held."""
    return _units(max(item_bytes(old), item_bytes(new)), _WRITE_UNIT)


def index_write_units(index: Index, old: Item | None, new: Item | None) -> int:
    """Return what the same write costs in an index."""
    before, after = index.entry(old), index.entry(new)
    if before == after:
        return 0
    if before is None or after is None:
        return _units(item_bytes(before or after), _WRITE_UNIT)
    if any(before[key] != after[key] for key in index.keys):
        return _units(item_bytes(before), _WRITE_UNIT) + _units(item_bytes(after), _WRITE_UNIT)
    return _units(max(item_bytes(before), item_bytes(after)), _WRITE_UNIT)


def read_units(sizes: Iterable[int], *, consistent: bool, together: bool) -> float:
    """Return what reading items of these sizes costs; `together` as a query does, which rounds up only once."""
    each = [sum(sizes)] if together else list(sizes)
    units = sum(_units(size, _READ_UNIT) for size in each)
    return float(units) if consistent else units / 2


def _units(size: int, unit: int) -> int:
    return max(1, math.ceil(size / unit))
