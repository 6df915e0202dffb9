"""Containers that live on, in a store of their own."""

import pytest
from living import Verbs


@pytest.fixture
def sbx_in(sbx, busybox_rootfs, no_leftovers):
    """Verbs in a store of its own, which is emptied at the end."""
    verbs = Verbs(sbx, busybox_rootfs)
    yield verbs
    verbs.sbx("rm", "-f", "-a")
