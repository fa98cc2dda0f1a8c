"""Generators: a case, a seed and a size in, a clip out. One file per family; ``base.py`` is the API."""

BUILT_IN = {
    "command": "refeval.generators.command:Command",
    "copy-paste": "refeval.generators.copy_paste:CopyPaste",
    "videos": "refeval.generators.videos:Videos",
}
