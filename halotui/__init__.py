"""halotui: the cockpit of a Strix Halo inference box."""

__version__ = "0.1.0"
