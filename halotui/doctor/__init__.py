"""The audit of the box and of its servers: it looks, and changes nothing."""
