"""Bytes only, no sockets: frames, hello and handshake, sealed records, and what is not acknowledged yet."""
