"""Where correlated randomness comes from."""
