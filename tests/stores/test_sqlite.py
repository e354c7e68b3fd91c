"""The embedded store: the contract, and what only a file can do."""

from __future__ import annotations

import pytest

from tests.stores.contract import StoreContract


@pytest.mark.parametrize("backing", ["sqlite"], indirect=True)
class TestContract(StoreContract):
    """SQLite keeps the contract."""
