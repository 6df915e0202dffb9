"""Fixtures about profiles."""

from pathlib import Path

import pytest
from images import Images
from learners import Learner
from support import Sbx


@pytest.fixture
def learn(session_sbx: Sbx, busybox_oci: Images, tmp_path: Path) -> Learner:
    return Learner(session_sbx, busybox_oci.oci, tmp_path / "mine.toml")
