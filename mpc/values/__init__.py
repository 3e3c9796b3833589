"""The secrets of a program: shares, masked values and bits, words that nobody has read yet, and their local algebra."""
