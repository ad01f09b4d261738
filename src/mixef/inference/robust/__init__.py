"""Tests: degrees of freedom, linear hypotheses, tables of terms, likelihood ratios."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
