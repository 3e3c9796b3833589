"""Sealed, authenticated channels over links: flow control, and the links that one channel outlives."""
