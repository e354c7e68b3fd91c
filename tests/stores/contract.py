"""What every store must do, whatever it is made of. A store's test module subclasses `StoreContract`.

The suite needs two fixtures of a store: ``store``, open on an empty place, and ``second``, another one on the same
place. Hypothesis gives its examples one store to share, so they use ids, models and providers of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from llmbench.stores.base import Store
from tests.stores.contract_counted import CountedContract
from tests.stores.contract_figures import ErrorsContract, FiguresContract
from tests.stores.contract_lifecycle import LifecycleContract
from tests.stores.contract_models import ModelsContract
from tests.stores.contract_outcomes import PutContract, RollupContract
from tests.stores.contract_questions import HistoryContract, OutcomesContract
from tests.stores.contract_transfer import TransferContract
from tests.stores.contract_trends import TrendsContract

Backing = Callable[[], Store]
"""Makes one more store, not opened yet, on the same place as the others that it made."""


class StoreContract(
    PutContract,
    RollupContract,
    OutcomesContract,
    HistoryContract,
    ErrorsContract,
    FiguresContract,
    TrendsContract,
    CountedContract,
    ModelsContract,
    TransferContract,
    LifecycleContract,
):
    """The whole of it. A store that can't do a part, by its nature, takes the other parts as its bases."""
