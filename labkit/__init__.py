"""labkit: the helper of the Istio workshop's notebooks, with a sandbox for machines that have no cluster."""

__version__ = "0.1.0"
