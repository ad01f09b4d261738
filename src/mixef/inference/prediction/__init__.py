"""Fitted values and predictions, with their uncertainty."""
