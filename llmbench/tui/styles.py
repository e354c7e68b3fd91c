"""The style sheet reads its rules when its colours change, and not for each screen that is shown for the first time."""

from __future__ import annotations

from textual.css.stylesheet import Stylesheet


class Styles(Stylesheet):
    """What Textual has, without reading all rules again, twice, when a screen is made and no colour has changed."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._given = dict(variables or {})
        self._is_read = True

    def set_variables(self, variables: dict[str, str]) -> None:
        """Set the colours; what was read with the same ones stays."""
        if variables != self._given:
            self._given = dict(variables)
            self._is_read = False
            super().set_variables(variables)

    def reparse(self) -> None:
        """Read all rules anew if the colours have changed; what else is new is read when it is asked for."""
        if not self._is_read:
            super().reparse()
            self._is_read = True
