"""Responses drawn from fits or from parameters."""
