"""Active, bounded checks of a running server, which a user starts."""
