"""What a user makes and passes on: families, links, options."""

from __future__ import annotations

from mixef.text.tables import Table, in_place


class Made:
    """What shows at a prompt the call that makes it, and in a notebook a table of what it is.

    Examples
    --------
    >>> from mixef import Gamma
    >>> Gamma("log")
    Gamma(link='log')
    >>> print(Gamma("log")._table())
    Family                     Gamma
    Link                       log
    Means                      0 to Inf
    Estimated besides the mean dispersion
    """

    def _facts(self) -> dict[str, str]:
        """Return what there is to know, by its name; the first is the heading."""
        raise NotImplementedError

    def _table(self) -> Table:
        """Return the table that a notebook shows."""
        head, *rows = self._facts().items()
        return Table(head, rows, align="ll")

    def _repr_html_(self) -> str:
        return self._table().to_html()

    def _repr_latex_(self) -> str:
        return in_place([self._table()])


def range_text(ends: tuple[float, float]) -> str:
    """Return an interval as a table has it.

    Examples
    --------
    >>> range_text((0.0, 1.0)), range_text((float("-inf"), float("inf")))
    ('0 to 1', '-Inf to Inf')
    """
    return " to ".join(f"{end:g}".replace("inf", "Inf") for end in ends)
