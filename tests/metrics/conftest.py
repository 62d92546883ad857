"""Both faces, by their names."""

from __future__ import annotations

import pytest
from metricsbench import FACES

from locksmith.testing.contract.faces import Face


@pytest.fixture(params=sorted(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    return FACES[request.param]()
