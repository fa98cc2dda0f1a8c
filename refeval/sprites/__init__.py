"""The sprites world: faces, people and things drawn from seeds with numpy alone.

scene = sample_scene([0, 17], count=2)
clip = draw_clip(scene, frames=16, height=112, width=192)
image = draw_reference(scene.actors[0].subject, 256, 256)
text = scene.prompt()
"""

from refeval.sprites.backgrounds import BACKGROUNDS, Background, draw_background
from refeval.sprites.drawing import draw_clip, draw_reference
from refeval.sprites.palette import COLOURS, SECOND_COLOURS, colour_votes
from refeval.sprites.sampling import Seed, arrange, sample_background, sample_scene
from refeval.sprites.scenes import Actor, Motion, Pose, Scene
from refeval.sprites.subjects import OBJECT_SHAPES, TEXTURES, Subject, SubjectKind, sample_subject

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "OBJECT_SHAPES",
    "SECOND_COLOURS",
    "TEXTURES",
    "Actor",
    "Background",
    "Motion",
    "Pose",
    "Scene",
    "Seed",
    "Subject",
    "SubjectKind",
    "arrange",
    "colour_votes",
    "draw_background",
    "draw_clip",
    "draw_reference",
    "sample_background",
    "sample_scene",
    "sample_subject",
]
