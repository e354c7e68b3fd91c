"""The conformance suite: every family of APIs through every scenario of the fault matrix."""

import pytest

pytest.register_assert_rewrite("tests.conformance.checks")
