"""The command line twins of the keys that act: servers, profiles, launch, relaunch, stop, start."""
