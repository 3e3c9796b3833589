"""Links: one contract, one module per transport."""
