"""The MongoDB store: the contract, and what is particular to its documents."""

from __future__ import annotations

import pytest

from tests.stores.contract import StoreContract


@pytest.mark.parametrize("backing", ["mongo"], indirect=True)
class TestContract(StoreContract):
    """MongoDB keeps the contract."""
