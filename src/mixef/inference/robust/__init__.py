"""Cluster-robust covariances of the fixed effects, and their degrees of freedom."""

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
