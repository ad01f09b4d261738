"""From arrays to factors."""
