"""Tests: degrees of freedom, linear hypotheses, tables of terms, likelihood ratios."""
