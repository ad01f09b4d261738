"""The data sets of the mixed-model literature that the documentation and the tests use."""

from mixef.datasets.load import datasets, load_dataset

__all__ = ["datasets", "load_dataset"]
