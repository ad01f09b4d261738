"""Text as LaTeX has it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Characters in a line of an article; where a table has more, its columns of long text are broken.
LATEX_LINE, _LONG = 90, 30
# A notebook's own LaTeX may not have the package booktabs.
RULES = (
    r"\providecommand{\toprule}{\hline}\providecommand{\midrule}{\hline}"
    r"\providecommand{\bottomrule}{\hline}"
    "\n" r"\ifdefined\cmidrule\else\def\cmidrule(#1)#2{\cline{#2}}\fi"
)  # fmt: skip

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    **{char: "\\" + char for char in "&%$#_{}"},
}
_SIGNS = {
    "−": "-", "×": r"\times", "±": r"\pm", "≤": r"\leq", "≥": r"\geq", "→": r"\to", "·": r"\cdot",
    "°": r"{}^\circ", "µ": r"\mu", "≠": r"\neq", "≈": r"\approx",
    "∞": r"\infty", "√": r"\surd", "Δ": r"\Delta", "∆": r"\Delta", "Ω": r"\Omega",
}  # fmt: skip
_GREEK_CAPITALS = frozenset(
    ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")
)
_ACCENTS = {
    "TONOS": r"\acute", "OXIA": r"\acute", "VARIA": r"\grave", "PERISPOMENI": r"\tilde",
    "DIALYTIKA": r"\ddot", "MACRON": r"\bar", "VRACHY": r"\breve",
}  # fmt: skip
# The letters, and of their accents those, that mathematics has; others stay as they are.
_LETTERS = (
    "ALPHA BETA GAMMA DELTA EPSILON ZETA ETA THETA IOTA KAPPA LAMDA MU NU XI OMICRON PI RHO SIGMA "
    "TAU UPSILON PHI CHI PSI OMEGA"
)
_GREEK = re.compile(
    rf"GREEK (?P<case>SMALL|CAPITAL) LETTER (?P<name>FINAL SIGMA|{'|'.join(_LETTERS.split())})"
    rf"(?: WITH (?P<accent>{'|'.join(_ACCENTS)}))?"
)
_RAISED = {"<super>": "^", "<sub>": "_"}
# The Greek capitals that LaTeX has as Latin letters of another name.
_LATIN_CAPITALS = {"Eta": "H", "Rho": "P", "Chi": "X"}


def latex_text(text: str) -> str:
    r"""Escape text for LaTeX: its special characters, and what pdflatex does not know by itself.

    Examples
    --------
    >>> print(latex_text("50% of a_b, β ≤ 1"))
    50\% of a\_b, $\beta$ $\leq$ 1
    """
    text = "".join(char for char in " ".join(text.split()) if char.isprintable())
    text = unicodedata.normalize("NFC", text)
    escaped = "".join(_SPECIAL.get(char) or _symbol(char) for char in text)
    return re.sub("(?<=[-'!?,])(?=[-'`,])", "{}", escaped)  # no dash or quote of two signs


def latex_columns(columns: Sequence[Sequence[str]], sides: Sequence[str]) -> list[str]:
    r"""Return the letters of a ``tabular``; long text is broken where the page is too narrow.

    Examples
    --------
    >>> latex_columns([["x", "251.4"], ["note", "converged"]], "rl")
    ['r', 'l']
    >>> latex_columns([["x", "251.4"], ["note", "word " * 30]], "rl")
    ['r', 'p{0.92\\linewidth}']
    """
    widths = [max((len(text.strip()) for text in column), default=0) + 2 for column in columns]
    long = [s == "l" and width > _LONG for s, width in zip(sides, widths, strict=True)]
    if not any(long) or sum(widths) <= LATEX_LINE:
        return list(sides)
    rest = sum(width for width, is_long in zip(widths, long, strict=True) if not is_long)
    total = sum(widths) - rest
    room = max(1.0 - rest / LATEX_LINE, 0.25 * sum(long))
    return [
        f"p{{{room * width / total:.2f}\\linewidth}}" if is_long else side
        for side, width, is_long in zip(sides, widths, long, strict=True)
    ]


def latex_cell(text: str, kind: str) -> str:
    """Return a cell of a column of some kind; what is broken into lines is not stretched."""
    return f"{{\\raggedright {text}\\par}}" if text and kind.startswith("p") else text


def _symbol(char: str) -> str:
    """Return a character as LaTeX has it: Greek letters, signs and raised ones as mathematics."""
    if char.isascii():
        return char
    if char in _SIGNS:
        return f"${_SIGNS[char]}$"
    kind, *points = unicodedata.decomposition(char).split() or [""]
    if kind in _RAISED and points:
        inside = "".join(chr(int(point, 16)) for point in points)
        return f"${{}}{_RAISED[kind]}{{{inside}}}$" if inside.isascii() else char
    # GREEK SMALL LETTER BETA, GREEK CAPITAL LETTER DELTA, GREEK SMALL LETTER ALPHA WITH TONOS
    known = _GREEK.fullmatch(unicodedata.name(char, ""))
    if known is None:
        return char
    name, accent = known["name"].lower().replace("lamda", "lambda"), known["accent"]
    if known["case"] == "SMALL":
        name = "mathrm{o}" if name == "omicron" else name
    else:
        name = name.capitalize()
        name = (
            name if name in _GREEK_CAPITALS else f"mathrm{{{_LATIN_CAPITALS.get(name, name[0])}}}"
        )
    letter = {"final sigma": "varsigma"}.get(name, name)
    return f"${_ACCENTS[accent]}{{\\{letter}}}$" if accent else f"$\\{letter}$"
