"""Who may use which range of which stream, and what masks and correlations are called."""
