"""Tests that run in the machines which `tests/vm/check` boots, and nowhere else: they change what a kernel allows."""

import os

import pytest

# Python of the emulated machine takes 0.35 s to start.
LIMIT = 60

if not os.environ.get("SBX_VM"):
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.vm)
