"""The audit log: its lines, its files, who writes it, what it tells, and whether it is whole."""
