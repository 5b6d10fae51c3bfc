"""Data to explain models on: generated scenes, with exact masks and boxes."""

from visavis.datasets.generated import ATTRIBUTES, SceneItem, Scenes
from visavis.datasets.scenes import COLOURS, Picture, Scene, SceneObject, Texture, render
from visavis.datasets.shapes import SHAPES
from visavis.datasets.textures import GROUNDS, TEXTURES

__all__ = [
    "ATTRIBUTES",
    "COLOURS",
    "GROUNDS",
    "SHAPES",
    "TEXTURES",
    "Picture",
    "Scene",
    "SceneItem",
    "SceneObject",
    "Scenes",
    "Texture",
    "render",
]
