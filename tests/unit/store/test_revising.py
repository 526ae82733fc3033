"""What taking a revision knows of the tables without reading them."""

from __future__ import annotations

import pytest
from sqlalchemy import UniqueConstraint

from orchestrator.store.revising import FIXED, KEYS
from orchestrator.store.tables import metadata


@pytest.mark.parametrize("name", KEYS)
def test_rows_are_known_again_by_their_primary_keys_and_no_other_key_is_written(name: str) -> None:
    table = metadata.tables[name]
    assert [column.name for column in table.primary_key] == list(KEYS[name])
    unique = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
    assert {column.name for each in unique for column in each.columns} <= FIXED
