"""``python -m clipes``: the command line."""

from clipes.cli import entry

if __name__ == "__main__":
    entry()
