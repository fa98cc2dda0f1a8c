"""A refeval command that ends with the command that has started it: ``python -m refeval.commands.child ARGUMENTS``."""

from __future__ import annotations

from refeval.cli import main
from refeval.signals import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    main()
