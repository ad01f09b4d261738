"""The generalized model: rows, PIRLS, Laplace and quadrature, its criterion, and its kind."""
