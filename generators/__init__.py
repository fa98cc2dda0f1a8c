"""Generators: a case, a seed and a size in, a clip out. One file per family; ``base.py`` is the API."""

BUILT_IN = {
    "command": "refeval.generators.command:Command",
    "copy-paste": "refeval.generators.copy_paste:CopyPaste",
    "phantom-1.3b": "refeval.generators.phantom:Phantom1B",
    "phantom-14b": "refeval.generators.phantom:Phantom14B",
    "phantom-tiny": "refeval.generators.phantom:PhantomTiny",
    "refalign-1.3b": "refeval.generators.refalign:RefAlign1B",
    "refalign-14b": "refeval.generators.refalign:RefAlign14B",
    "refalign-tiny": "refeval.generators.refalign:RefAlignTiny",
    "trained": "refeval.generators.trained:Trained",
    "vace-1.3b": "refeval.generators.vace:Vace1B",
    "vace-1.3b-preview": "refeval.generators.vace:Vace1BPreview",
    "vace-14b": "refeval.generators.vace:Vace14B",
    "vace-tiny": "refeval.generators.vace:VaceTiny",
    "videos": "refeval.generators.videos:Videos",
}
