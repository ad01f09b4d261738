"""One linear model, many responses at once."""
