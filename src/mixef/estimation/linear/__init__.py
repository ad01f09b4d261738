"""The linear model: penalized least squares, its criterion, and its kind."""
