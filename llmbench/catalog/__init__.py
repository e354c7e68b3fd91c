"""What a model's id tells: whether a provider takes it, whether the model fits this benchmark, whether it reasons.

Rules are data, and pure: nothing here asks a provider, reads a file or changes an id. They are made from the
providers' published lists of models; an id that no rule knows is taken as it is.
"""

from llmbench.catalog.findings import Finding
from llmbench.catalog.judging import judge
from llmbench.catalog.own_fields import RESERVED, reserved
from llmbench.catalog.reasoning import reasons

__all__ = ["RESERVED", "Finding", "judge", "reasons", "reserved"]
