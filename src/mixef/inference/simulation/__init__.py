"""Simulation from fits or from parameters, bootstrap, power."""
