from pathlib import Path

import pytest

from tests.tiny import make_encoder


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> folder of a tiny encoder."""
    folder = tmp_path_factory.mktemp("encoders")
    families = ("modernbert", "electra", "bert", "roberta")
    return {family: make_encoder(folder / family, family) for family in families}
