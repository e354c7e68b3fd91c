"""The bridge: the HTTP side, which takes outcomes from runners that cannot reach the database."""
