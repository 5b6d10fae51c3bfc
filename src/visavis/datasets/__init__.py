"""Data to explain models on: generated scenes with exact masks and boxes, and annotated photographs of one's own."""

from visavis.datasets.annotated import AnnotatedDataset, Annotation, Sample
from visavis.datasets.coco import COCO
from visavis.datasets.generated import ATTRIBUTES, SceneItem, Scenes
from visavis.datasets.imagenet import ImageNet
from visavis.datasets.mapping import class_map
from visavis.datasets.placement import Placement, placement_of
from visavis.datasets.registry import Kind, datasets, open_dataset, register_dataset
from visavis.datasets.scene_dataset import SceneDataset
from visavis.datasets.scenes import COLOURS, Picture, Scene, SceneObject, Texture, render
from visavis.datasets.shapes import SHAPES
from visavis.datasets.table import FolderDataset
from visavis.datasets.textures import GROUNDS, TEXTURES
from visavis.datasets.voc import VOC

__all__ = [
    "ATTRIBUTES",
    "COCO",
    "COLOURS",
    "GROUNDS",
    "SHAPES",
    "TEXTURES",
    "VOC",
    "AnnotatedDataset",
    "Annotation",
    "FolderDataset",
    "ImageNet",
    "Kind",
    "Picture",
    "Placement",
    "Sample",
    "Scene",
    "SceneDataset",
    "SceneItem",
    "SceneObject",
    "Scenes",
    "Texture",
    "class_map",
    "datasets",
    "open_dataset",
    "placement_of",
    "register_dataset",
    "render",
]
