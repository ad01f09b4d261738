"""Text as LaTeX has it."""

from __future__ import annotations

import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{char: "\\" + char for char in "&%$#_{}"},
}
_SIGNS = {
    "−": "-", "×": r"\times", "±": r"\pm", "≤": r"\leq", "≥": r"\geq", "→": r"\to", "·": r"\cdot",
    "°": r"{}^\circ", "²": "{}^2", "³": "{}^3", "µ": r"\mu", "≠": r"\neq", "≈": r"\approx",
    "∞": r"\infty", "√": r"\surd", "Δ": r"\Delta", "∆": r"\Delta", "Ω": r"\Omega",
}  # fmt: skip
_GREEK_CAPITALS = frozenset(
    ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
)
# The Greek capitals that LaTeX has as Latin letters of another name.
_LATIN_CAPITALS = {"Eta": "H", "Rho": "P", "Chi": "X"}


def latex_text(text: str) -> str:
    r"""Escape text for LaTeX: its special characters, and what pdflatex does not know by itself.

    Examples
    --------
    >>> print(latex_text("50% of a_b, β ≤ 1"))
    50\% of a\_b, $\beta$ $\leq$ 1
    """
    return "".join(_SPECIAL.get(char) or _symbol(char) for char in " ".join(text.split()))


def _symbol(char: str) -> str:
    """Return a character as LaTeX has it: Greek letters and signs as mathematics."""
    if char.isascii():
        return char
    if char in _SIGNS:
        return f"${_SIGNS[char]}$"
    # GREEK SMALL LETTER BETA, GREEK CAPITAL LETTER DELTA
    words = unicodedata.name(char, "").split()
    if words[:1] != ["GREEK"] or words[2:3] != ["LETTER"] or len(words) != 4:
        return char
    name = words[3].lower().replace("lamda", "lambda")
    if name == "omicron":
        name = "mathrm{o}"
    if words[1] == "CAPITAL":
        name = name.capitalize()
        name = (
            name if name in _GREEK_CAPITALS else f"mathrm{{{_LATIN_CAPITALS.get(name, name[0])}}}"
        )
    return f"$\\{name}$"
