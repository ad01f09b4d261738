"""Criteria with one parameter held, which likelihood profiles are made of."""
