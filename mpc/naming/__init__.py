"""Who may use which range of which stream, and the names of masks and correlations."""
