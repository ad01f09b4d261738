"""Factors that are never formed: two crossed factors by conjugate gradients and Lanczos runs."""
