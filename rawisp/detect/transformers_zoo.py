"""The published RT-DETR and D-FINE detectors: where their weights are, what they are built of.

The configurations are those of transformers' own converters, so that a file of weights can be
opened, or a network with random ones built, without a download. Nothing here imports transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """kind: its classes' name in transformers. hub: where its weights are. settings: of its
    configuration, where they are not the kind's defaults; as in transformers' converters."""

    kind: str
    hub: str
    settings: dict[str, Any] = field(default_factory=dict)


def _resnet(depths: Sequence[int], layers: int) -> dict[str, Any]:
    """RT-DETR on one of the small ResNets. layers: of the decoder."""
    backbone = {
        "model_type": "rt_detr_resnet",
        "layer_type": "basic",
        "hidden_sizes": [64, 128, 256, 512],
        "depths": list(depths),
        "out_indices": [2, 3, 4],
    }
    return {
        "backbone_config": backbone,
        "encoder_in_channels": [128, 256, 512],
        "hidden_expansion": 0.5,
        "decoder_layers": layers,
    }


def _hgnet(
    stem: tuple[int, int],
    widths: Sequence[int],
    blocks: Sequence[int],
    layers: int,
    *,
    affine: bool,
) -> dict[str, Any]:
    """D-FINE on an HGNetV2. stem, widths: channels in the stem and after each of four stages."""
    backbone = {
        "model_type": "hgnet_v2",
        "stem_channels": [3, *stem],
        "stage_in_channels": [stem[1], *widths[:-1]],
        "stage_mid_channels": [stem[1] * 2**n for n in range(4)],
        "stage_out_channels": list(widths),
        "hidden_sizes": list(widths),
        "stage_num_blocks": list(blocks),
        "stage_numb_of_layers": [layers] * 4,
        "use_learnable_affine_block": affine,
        "out_indices": [2, 3, 4],
    }
    return {
        "backbone_config": backbone,
        "encoder_in_channels": list(widths[1:]),
        "decoder_n_points": [3, 6, 3],
    }


def _nano() -> dict[str, Any]:
    """The only one with two levels, strides 16 and 32."""
    settings = _hgnet((16, 16), (64, 256, 512, 1024), (1, 1, 2, 1), 3, affine=True)
    settings["backbone_config"]["out_indices"] = [3, 4]
    return settings | {
        "encoder_in_channels": [512, 1024],
        "feat_strides": [16, 32],
        "num_feature_levels": 2,
        "encode_proj_layers": [1],
        "d_model": 128,
        "encoder_hidden_dim": 128,
        "encoder_ffn_dim": 512,
        "decoder_in_channels": [128, 128],
        "decoder_ffn_dim": 512,
        "decoder_n_points": [6, 6],
        "decoder_layers": 3,
        "depth_mult": 0.5,
        "hidden_expansion": 0.34,
    }


_R18, _R34 = _resnet((2, 2, 2, 2), 3), _resnet((3, 4, 6, 3), 4)
_WIDE: dict[str, Any] = {
    "encoder_hidden_dim": 384,
    "encoder_ffn_dim": 2048,
    "decoder_in_channels": [384, 384, 384],
}
_R101 = _WIDE | {
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        "depths": [3, 4, 23, 3],
        "out_indices": [2, 3, 4],
    }
}
_SMALL = _hgnet((16, 16), (64, 256, 512, 1024), (1, 1, 2, 1), 3, affine=True)
_MEDIUM = _hgnet((24, 32), (96, 384, 768, 1536), (1, 1, 3, 1), 4, affine=True)
_LARGE = _hgnet((32, 48), (128, 512, 1024, 2048), (1, 1, 3, 1), 6, affine=False)
_HUGE = _hgnet((32, 64), (128, 512, 1024, 2048), (1, 2, 5, 2), 6, affine=False)

PUBLISHED: dict[str, Published] = {
    "rtdetr_r18": Published("RTDetr", "PekingU/rtdetr_r18vd_coco_o365", _R18),
    "rtdetr_r34": Published("RTDetr", "PekingU/rtdetr_r34vd", _R34),
    "rtdetr_r50": Published("RTDetr", "PekingU/rtdetr_r50vd_coco_o365"),
    "rtdetr_r101": Published("RTDetr", "PekingU/rtdetr_r101vd_coco_o365", _R101),
    "rtdetr_v2_r18": Published("RTDetrV2", "PekingU/rtdetr_v2_r18vd", _R18),
    "rtdetr_v2_r34": Published("RTDetrV2", "PekingU/rtdetr_v2_r34vd", _R34),
    "rtdetr_v2_r50": Published("RTDetrV2", "PekingU/rtdetr_v2_r50vd"),
    "rtdetr_v2_r101": Published("RTDetrV2", "PekingU/rtdetr_v2_r101vd", _R101),
    "dfine_n": Published("DFine", "ustc-community/dfine-nano-coco", _nano()),
    "dfine_s": Published(
        "DFine",
        "ustc-community/dfine-small-coco",
        _SMALL | {"decoder_layers": 3, "hidden_expansion": 0.5, "depth_mult": 0.34},
    ),
    "dfine_m": Published(
        "DFine",
        "ustc-community/dfine-medium-coco",
        _MEDIUM | {"decoder_layers": 4, "depth_mult": 0.67},
    ),
    "dfine_l": Published("DFine", "ustc-community/dfine-large-coco", _LARGE),
    "dfine_x": Published("DFine", "ustc-community/dfine-xlarge-coco", _HUGE | _WIDE),
}
