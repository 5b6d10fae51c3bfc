"""Shape or texture: in how many dimensions, and where, a network encodes either, and by which of them it decides.

After Islam, Kowal, Esser, Jia, Ommer, Derpanis, Bruce 2021 (Shape or Texture: Understanding Discriminative Features in
CNNs, arXiv 2101.11604), and Geirhos et al. 2019 (arXiv 1811.12231).
"""

from visavis.shape_texture.adain import AdaIN
from visavis.shape_texture.categories import categories_of
from visavis.shape_texture.checkpoints import Checkpoint, checkpoint_dimensionality, checkpoints_in
from visavis.shape_texture.conflict_maps import ConflictMaps, edge_share, explain_conflict
from visavis.shape_texture.conflicts import ConflictFolder, CueConflict, CueConflicts, SceneConflicts
from visavis.shape_texture.cue_conflict import ShapeBias, shape_bias
from visavis.shape_texture.dimensionality import (
    Dimensionality,
    Estimator,
    dimensionality,
    estimators,
    register_estimator,
)
from visavis.shape_texture.encoded import layer_dimensionality
from visavis.shape_texture.encoders import random_encoder
from visavis.shape_texture.features import maps_of
from visavis.shape_texture.latents import Latents
from visavis.shape_texture.neurons import NeuronRemoval, dominant_units, factor_units, remove_neurons
from visavis.shape_texture.pairs import Pairs, ScenePairs
from visavis.shape_texture.quilting import Quilting, texture_transfer
from visavis.shape_texture.readout import Readout, readout
from visavis.shape_texture.segmented import AnnotatedSegments, SceneSegments, Segmented
from visavis.shape_texture.sources import check_pairs, open_pairs, pair_sources, register_pairs
from visavis.shape_texture.stages import stages
from visavis.shape_texture.stylized import StylizedPairs
from visavis.shape_texture.transferred import TransferPairs
from visavis.shape_texture.voc_segments import VOCSegments

__all__ = [
    "AdaIN",
    "AnnotatedSegments",
    "Checkpoint",
    "ConflictFolder",
    "ConflictMaps",
    "CueConflict",
    "CueConflicts",
    "Dimensionality",
    "Estimator",
    "Latents",
    "NeuronRemoval",
    "Pairs",
    "Quilting",
    "Readout",
    "SceneConflicts",
    "ScenePairs",
    "SceneSegments",
    "Segmented",
    "ShapeBias",
    "StylizedPairs",
    "TransferPairs",
    "VOCSegments",
    "categories_of",
    "check_pairs",
    "checkpoint_dimensionality",
    "checkpoints_in",
    "dimensionality",
    "dominant_units",
    "edge_share",
    "estimators",
    "explain_conflict",
    "factor_units",
    "layer_dimensionality",
    "maps_of",
    "open_pairs",
    "pair_sources",
    "random_encoder",
    "readout",
    "register_estimator",
    "register_pairs",
    "remove_neurons",
    "shape_bias",
    "stages",
    "texture_transfer",
]
