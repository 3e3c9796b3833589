"""Building blocks on shares: free functions `op(s, shares...)`, each at the cost it declares."""
