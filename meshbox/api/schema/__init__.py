"""Structural schemas of CustomResourceDefinitions: what they prune, default and refuse, in the API server's words."""
