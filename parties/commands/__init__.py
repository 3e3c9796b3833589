"""Commands of `beaver`, one module for each group."""
