"""Searches for the minimum of any criterion, and the verdict on their ends."""
