"""Response distributions and link functions."""
