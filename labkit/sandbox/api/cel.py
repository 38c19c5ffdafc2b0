"""The CEL rules of CustomResourceDefinitions."""
