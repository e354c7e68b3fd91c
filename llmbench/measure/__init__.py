"""The measuring path: from bytes that the kernel stamped to the numbers of one run."""
