"""20 steps of both families follow the recorded curves; `python -m tests.golden.remake` remakes."""

import json

import pytest

from tests.golden.remake import FILE, curve


@pytest.mark.parametrize("name", ["classic", "modern"])
def test_golden_curve(name: str) -> None:
    recorded = json.loads(FILE.read_text(encoding="utf-8"))[name]
    for quantity, values in curve(name).items():
        assert values == pytest.approx(recorded[quantity], rel=1e-3), quantity
        assert len(values) == 20
