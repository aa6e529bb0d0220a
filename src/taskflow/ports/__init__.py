"""What TaskFlow needs of the world, as Protocols. Their docstrings are the contracts that tests/contract checks."""
