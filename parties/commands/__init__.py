"""The commands of `beaver`, one module for each group."""
