"""What TaskFlow needs of the world, as Protocols. Each docstring is the contract; tests/contract holds every adapter to it."""
