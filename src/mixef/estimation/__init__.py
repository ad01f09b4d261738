"""Criteria, their gradients, and the search."""
