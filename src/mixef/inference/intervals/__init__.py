"""Confidence intervals: profiles of the likelihood, curvature, bootstrap."""
