"""From a formula and data to arrays."""
