"""The dashboard: a viewer in a process of its own, attached to an engine's live events."""
