"""The deliberate defects of tests/mutations.py still fit the source that they change."""

from __future__ import annotations

import pytest

from tests.mutations import DEFECTS, ROOT, Defect


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_has_one_place_in_the_source(defect: Defect) -> None:
    assert (ROOT / defect.path).read_text(encoding="utf-8").count(defect.old) == 1
    assert defect.new != defect.old
