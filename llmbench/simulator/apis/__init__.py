"""One module per wire format: what it refuses, and the bytes of its streams. A new format joins in `routes.ROUTES`."""
