"""The study that most tests train on."""

import pytest
import torch

from tests.training.study import Study, make_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """32 people in two shards, of whom four come twice. Nothing may write to it."""
    return make_study(tmp_path_factory.mktemp("study"), second_visits=4, shards=2)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """As training sets it, so that results do not depend on which test comes first."""
    torch.set_num_threads(1)
