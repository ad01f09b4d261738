"""Times, memory and optima of mixef and its peers, measured side by side in one run."""
