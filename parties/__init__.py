"""The node: what an organisation runs beside its data."""
