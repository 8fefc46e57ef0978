"""``python -m halotui``."""

from halotui.cli import entry

if __name__ == "__main__":
    entry()
