"""What the commands of the command line do and print; their options stand in ``cli.py``."""
