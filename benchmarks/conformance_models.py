"""The models of the conformance suite: every classifier of torchvision, and timm's by family, with random weights.

Inputs are small, so that the whole suite runs on a CPU: 64 pixels wherever a model takes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

GROUPS = ("classification", "video", "segmentation", "quantized")


@dataclass(frozen=True)
class Subject:
    """A model that is examined.

    Attributes:
        name: what its library calls it.
        source: the library, "torchvision" or "timm".
        group: one of GROUPS.
        shape: of its input, (B, C, H, W) or (B, C, T, H, W).
        options: how it is built beside its defaults.
    """

    name: str
    source: str = "torchvision"
    group: str = "classification"
    shape: tuple[int, ...] = (2, 3, 64, 64)
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def title(self) -> str:
        """What names it among the models of all libraries."""
        return f"{self.source}:{self.name}"

    @property
    def exists(self) -> bool:
        """Whether its library has it: an older timm lacks some."""
        if self.source != "timm":
            return True
        import timm

        return bool(timm.is_model(self.name))

    @property
    def family(self) -> str:
        """The module of its library that defines it."""
        return str(_builder(self.source, self.name).__module__.rsplit(".", 1)[-1])

    def network(self) -> nn.Module:
        """Build it, in evaluation mode, the same at every call; but for the quantised, no value is trivially 0 or 1."""
        torch.manual_seed(0)
        module: nn.Module
        if self.source == "timm":
            import timm

            module = timm.create_model(self.name, pretrained=False, **self.options)
        elif self.name.startswith("mvit"):
            module = _small_mvit(self.name, self.shape)
        else:
            from torchvision import models

            module = models.get_model(self.name, weights=None, **self.options)
        return module.eval() if self.group == "quantized" else randomised(module.eval(), self.inputs())

    def inputs(self) -> Tensor:
        """Return its inputs, the same at every call."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(1))


def _builder(source: str, name: str) -> Any:
    """Return the function of its library that builds a model."""
    if source == "timm":
        from timm.models import model_entrypoint

        return model_entrypoint(name)
    from torchvision.models import get_model_builder

    return get_model_builder(name)


@torch.no_grad()
def randomised(module: nn.Module, inputs: Tensor) -> nn.Module:
    """Draw biases and all that was built as a constant; take the statistics of batch norms near those of `inputs`.

    So biases, scales, class tokens and positional embeddings take part, and so do residual branches that begin at
    (nearly) zero. Without statistics that fit, signals die out in deep networks, and the score rests on biases alone.
    """
    for parameter in module.parameters():
        value = float(parameter.flatten()[0])
        if not bool((parameter == value).all()):
            continue
        if value == 0:
            parameter.normal_(0.0, 0.02)
        elif abs(value) < 0.01:
            parameter.uniform_(0.1, 0.5)
        else:
            parameter.uniform_(0.5, 1.5).mul_(value)
    for part in module.modules():
        if isinstance(part, nn.Linear | _ConvNd) and part.bias is not None:
            # A tenth of what the inputs bring: with more, biases alone would decide.
            part.bias.normal_().mul_(0.1 * float(part.weight.flatten(1).norm(dim=1).mean()))
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.running_var is not None]
    handles = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
    module(inputs)
    for handle in handles:
        handle.remove()
    return module


def _take_statistics(norm: nn.Module, args: tuple[Tensor]) -> None:
    """Set the running statistics near those of the input that a batch norm is about to be given."""
    (x,) = args
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    variance, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
    norm.running_mean.copy_(mean + 0.1 * variance.sqrt() * torch.randn_like(mean))
    norm.running_var.copy_(torch.where(variance == 0, 1, variance) * torch.empty_like(variance).uniform_(0.5, 1.5))


@torch.no_grad()
def without_offsets(module: nn.Module) -> nn.Module:
    """Set every bias and the means of batch norms to zero, in float64: what is piecewise linear is then homogeneous."""
    module = module.double()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name.endswith(("bias", "running_mean")):
            tensor.zero_()
    return module


# -- torchvision -----------------------------------------------------------------------------------------------------

_WITHOUT_TABLES: Mapping[str, Any] = MappingProxyType({"init_weights": False})
#: What of torchvision is not built by its defaults on two inputs of 64 pixels.
_TORCHVISION: dict[str, tuple[tuple[int, ...], Mapping[str, Any]]] = {
    "googlenet": ((2, 3, 64, 64), _WITHOUT_TABLES),
    "inception_v3": ((2, 3, 80, 80), _WITHOUT_TABLES),
    "maxvit_t": ((1, 3, 224, 224), {"input_size": (224, 224)}),
    "regnet_y_128gf": ((2, 3, 32, 32), {}),
    "vit_b_16": ((2, 3, 64, 64), {"image_size": 64}),
    "vit_b_32": ((2, 3, 64, 64), {"image_size": 64}),
    "vit_h_14": ((1, 3, 28, 28), {"image_size": 28}),
    "vit_l_16": ((1, 3, 32, 32), {"image_size": 32}),
    "vit_l_32": ((1, 3, 64, 64), {"image_size": 64}),
}
_CLIP = (1, 3, 8, 64, 64)
_VIDEO = {
    "mc3_18": _CLIP,
    "mvit_v1_b": _CLIP,
    "mvit_v2_s": _CLIP,
    "r2plus1d_18": _CLIP,
    "r3d_18": _CLIP,
    "s3d": (1, 3, 16, 224, 224),
    "swin3d_t": _CLIP,
}
_SEGMENTATION = ("deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large")


def _small_mvit(name: str, shape: tuple[int, ...]) -> nn.Module:
    """Build one of torchvision's MViTs for small clips: the class takes any size, its builders insist on 224 pixels."""
    from torchvision.models import get_model
    from torchvision.models.video import mvit

    build = mvit._mvit
    size = {"temporal_size": shape[2], "spatial_size": shape[3:]}
    with patch.object(mvit, "_mvit", lambda **options: build(**{**options, **size})):
        module: nn.Module = get_model(name, weights=None)
    return module


def torchvision_subjects() -> Iterator[Subject]:
    """Yield all of torchvision's classifiers; videos and segmentation by family; and the quantised, to be refused."""
    from torchvision import models

    for name in models.list_models(module=models):
        shape, options = _TORCHVISION.get(name, ((2, 3, 64, 64), {}))
        yield Subject(name, shape=shape, options=options)
    for name, shape in _VIDEO.items():
        yield Subject(name, group="video", shape=shape)
    for name in _SEGMENTATION:
        yield Subject(name, group="segmentation", options={"weights_backbone": None})
    for name in models.list_models(module=models.quantization):
        yield Subject(name, group="quantized", options={"quantize": True})


# -- timm ------------------------------------------------------------------------------------------------------------

# One model of each of timm's families, the smallest.
_FAMILIES = """
beit_base_patch16_224 botnet26t_256 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 convnextv2_atto cpubone_nano
cs3darknet_focus_s csatv2 crossvit_tiny_240 cspnext_tiny davit_tiny deit_tiny_patch16_224 densenetblur121d dla46x_c
dm_nfnet_f0 dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientvim_m1 efficientvit_b0
efficientvit_m0 ese_vovnet19b_slim_dw eva02_tiny_patch14_224 fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny
gemma4_vit_167m ghostnet_050 gmlp_ti16_224 hardcorenas_b hgnetv2_b0 hiera_tiny_224 hrnet_w18_small iformer_t
inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small legacy_seresnet18 legacy_xception
levit_128s lowformer_b0 mambaout_femto maxvit_pico_rw_256 mixnet_s mobilenetv3_small_050 mobilenetv5_base mobilevit_xxs
mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny nextvit_small pit_ti_224 pnasnet5large
poolformerv2_s12 pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetz_005 repghostnet_050 repvgg_a0 repvit_m1 res2next50
resnest14d resnet10t resnetv2_18 rexnet_100 sam2_hiera_tiny samvit_base_patch16_224 selecsls42 sequencer2d_s shvit_s1
skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 swinv2_tiny_window8_256
tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny vit_srelpos_small_patch16_224
vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 vitamin_small_224 volo_d1_224 xception41p xcit_nano_12_p8_224
"""
# Their kin that are built otherwise.
_KIN = """
caformer_s18 coat_lite_tiny coatnet_nano_rw_224 coatnet_rmlp_nano_rw_224 convformer_s18 convnext_zepto_rms cspresnet50
deit_tiny_distilled_patch16_224 ecaresnet26t eca_nfnet_l0 eca_vovnet39b efficientnet_b0_gn efficientnet_es fbnetv3_b
flexivit_small gcresnet50t gernet_s ghostnetv3_100 gmixer_24_224 halonet26t lambda_resnet26t maxxvit_rmlp_nano_rw_256
mixer_s32_224 mobilenetv4_hybrid_medium mobileone_s0 mobilevitv2_050 nf_resnet50 poolformer_s12 resmlp_12_224
resnet51q resnetblur18 resnetv2_50x1_bit seresnext26t_32x4d tf_efficientnet_lite0 twins_pcpvt_small
vit_little_patch16_reg4_gap_256 vit_relpos_small_patch16_224 vit_small_patch16_rope_mixed_224
vit_tiny_patch16_dinov3_qkvb vit_xsmall_patch16_clip_224
"""
# Those that take only the size they were built for, but can be built for another.
_SIZED = """
beit_base_patch16_224 botnet26t_256 cait_xxs24_224 coat_lite_tiny coat_tiny coatnet_nano_rw_224 coatnet_rmlp_nano_rw_224
convit_tiny deit_tiny_distilled_patch16_224 deit_tiny_patch16_224 efficientformerv2_s0 eva02_tiny_patch14_224
flexivit_small gcvit_xxtiny gmixer_24_224 gmlp_ti16_224 hiera_tiny_224 levit_128s maxvit_pico_rw_256
maxxvit_rmlp_nano_rw_256 mixer_s32_224 nest_tiny pit_ti_224 resmlp_12_224 swin_tiny_patch4_window7_224
swinv2_cr_tiny_224 swinv2_tiny_window8_256 tnt_s_legacy_patch16_224 visformer_tiny vit_little_patch16_reg4_gap_256
vit_relpos_small_patch16_224 vit_small_patch16_rope_mixed_224 vit_srelpos_small_patch16_224 vit_tiny_patch16_224
vit_tiny_r_s16_p8_224 vit_xsmall_patch16_clip_224 vitamin_small_224 volo_d1_224
"""
# Large ones, of which one input must do.
_LARGE = """
beit_base_patch16_224 dm_nfnet_f0 gemma4_vit_167m mobilenetv5_base naflexvit_base_patch16_parfac_gap nasnetalarge
pnasnet5large qwen3_vit_88m samvit_base_patch16_224 vgg11
"""
_SIZES = {
    "efficientformer_l1": 224,
    "halonet26t": 256,
    "inception_resnet_v2": 80,
    "inception_v3": 80,
    "inception_v4": 80,
}


def timm_subjects(*, kin: bool = True) -> Iterator[Subject]:
    """Yield one model of each of timm's families; with `kin`, also some that are built otherwise."""
    for name in (_FAMILIES + _KIN if kin else _FAMILIES).split():
        size = _SIZES.get(name, 64)
        # Some are published without a classifier.
        options = {"num_classes": 100, **({"img_size": size} if name in _SIZED.split() else {})}
        batch = 1 if name in _LARGE.split() else 2
        yield Subject(name, "timm", shape=(batch, 3, size, size), options=options)


def subjects() -> list[Subject]:
    """Return all models of the suite that the installed libraries have."""
    return [one for one in (*torchvision_subjects(), *timm_subjects()) if one.exists]
