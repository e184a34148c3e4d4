from __future__ import annotations

from typing import Any

import pytest

from until_ack_localstack.dynamodb.sizes import Index, index_write_units, item_bytes, read_units, write_units

INDEX = Index("due", ("shard", "at"), frozenset({"id", "shard", "at"}))


def _item(**attributes: Any) -> dict[str, Any]:
    return {"id": {"S": "a"}, **attributes}


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "abc"}, 3),
        ({"S": "ä"}, 2),
        ({"N": "5"}, 2),
        ({"N": "1795254173123"}, 8),
        ({"N": "-10"}, 3),
        ({"N": "1000"}, 2),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"B": b"1234"}, 4),
        ({"B": "MTIzNA=="}, 4),
        ({"SS": ["ab", "c"]}, 3),
        ({"NS": ["1", "22"]}, 4),
        ({"BS": [b"12"]}, 2),
        ({"L": [{"S": "ab"}, {"S": "c"}]}, 3 + 1 + 2 + 1 + 1),
        ({"M": {"k": {"S": "ab"}}}, 3 + 1 + 1 + 2),
        ({"M": {}}, 3),
    ],
)
def test_the_size_of_a_value(value: Any, size: int) -> None:
    assert item_bytes({"n": value}) == 1 + size


def test_a_write_costs_the_larger_of_before_and_after() -> None:
    small, large = _item(), _item(text={"S": "x" * 3000})
    assert write_units(None, small) == 1
    assert write_units(small, large) == write_units(large, small) == write_units(large, None) == 3
    assert write_units(None, None) == 1


@pytest.mark.parametrize(
    ("old", "new", "units"),
    [
        (None, _item(), 0),
        (None, _item(shard={"S": "0"}), 0),
        (None, _item(shard={"S": "0"}, at={"N": "1"}), 1),
        (_item(shard={"S": "0"}, at={"N": "1"}), _item(shard={"S": "0"}, at={"N": "2"}), 2),
        (_item(shard={"S": "0"}, at={"N": "1"}), _item(shard={"S": "0"}, at={"N": "1"}, other={"S": "x"}), 0),
        (_item(shard={"S": "0"}, at={"N": "1"}), None, 1),
    ],
)
def test_what_a_write_costs_in_a_sparse_index(old: Any, new: Any, units: int) -> None:
    assert index_write_units(INDEX, old, new) == units


def test_an_index_that_projects_everything_is_written_with_every_change() -> None:
    whole = Index("all", ("shard",), None)
    old, new = _item(shard={"S": "0"}), _item(shard={"S": "0"}, other={"S": "x" * 1500})
    assert index_write_units(whole, old, new) == 2


def test_reads_round_up_each_or_together() -> None:
    sizes = [1000, 1000, 5000]
    assert read_units(sizes, consistent=True, together=False) == 4
    assert read_units(sizes, consistent=False, together=True) == 1
    assert read_units([], consistent=False, together=True) == 0.5
