"""RT-DETR, its second version and D-FINE as guides, and the one place that knows transformers.

Their `forward` returns a loss summed over the batch and normalised by the batch's number of boxes.
Here the network runs once for the batch and the library's loss for each image, with the matching
and the number of boxes of that image, in evaluation mode. Queries that are made from the truth with
random noise (denoising) belong to the detector's own training and are left out: the loss is a
function of the image. In evaluation mode D-FINE judges its encoder's proposals and its last layer,
the others all layers; what D-FINE adds for its box distributions belongs to its training too.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from rawisp.detect.base import Detections, Guide, Target
from rawisp.detect.features import features_apart
from rawisp.detect.transformers_zoo import PUBLISHED
from rawisp.errors import CheckpointError, UsageError, display_path
from rawisp.extras import install_advice

SIZE = (640, 640)  # to which all published ones scale their input, whatever its shape


class TransformersGuide(Guide):
    """One of transformers' detectors.

    model: RTDetrForObjectDetection, RTDetrV2ForObjectDetection or DFineForObjectDetection.
    categories: names by the model's own label. Labels of the guide are one higher and 0 means
    nothing, as with torchvision's detectors.
    """

    def __init__(self, model: Any, categories: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.categories = (None, *categories)
        self.size = SIZE
        self._constants = {n for n, p in model.named_parameters() if not p.requires_grad}
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(_ask_for_plain_gradient)
        self.eval()

    @property
    def configuration(self) -> dict[str, Any]:
        """What has to be known to build the model again, for JSON."""
        said: dict[str, Any] = json.loads(self.model.config.to_json_string())
        return said

    def work_at(self, size: tuple[int, int]) -> None:
        """The long and the short side, in pixels, to which images are scaled. UsageError."""
        long, short = max(size), min(size)
        strides, queries = self.model.config.feat_strides, self.model.config.num_queries
        step = max(strides)
        if long % step or short % step:
            raise UsageError(
                f"--detector-size {long}x{short}: this detector needs multiples of {step}"
            )
        if sum((long // s) * (short // s) for s in strides) < queries:
            raise UsageError(
                f"--detector-size {long}x{short}: too small for the {queries} queries of this "
                "detector"
            )
        self.size = (long, short)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """As for any module, but D-FINE's constants, which are parameters too, stay constants."""
        super().requires_grad_(requires_grad)
        for name, parameter in self.model.named_parameters():
            if name in self._constants:
                parameter.requires_grad_(False)
        return self

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Varifocal, L1 and GIoU terms, each summed over layers, as if each image were alone."""
        self.model.eval()
        found: dict[int, dict[str, Tensor]] = {}
        for indices, batch in self._batches(images):
            outputs = self.model.model(batch)
            for row, n in enumerate(indices):
                found[n] = self._losses_of(outputs, row, _labels(targets[n], images[n]))
        return {
            term: torch.stack([found[n][term] for n in range(len(images))])
            for term in found.get(0, {})
        }

    def _batches(self, images: Sequence[Tensor]) -> list[tuple[list[int], Tensor]]:
        """Indices and scaled images (B, 3, H, W), upright pictures apart from the others.

        Antialiased, as the published models' images were; the aspect is not kept.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        long, short = self.size
        for n, image in enumerate(images):
            lies = image.shape[2] >= image.shape[1]
            groups.setdefault((short, long) if lies else (long, short), []).append(n)
        return [
            (indices, torch.cat([_scaled(images[n], shape) for n in indices]))
            for shape, indices in groups.items()
        ]

    def _losses_of(self, outputs: Any, row: int, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        def alone(name: str) -> Tensor | None:
            value = getattr(outputs, name, None)
            return None if value is None else value[row : row + 1].float()

        logits, boxes = alone("intermediate_logits"), alone("intermediate_reference_points")
        assert logits is not None and boxes is not None
        # Overlaps and logarithms of small numbers: not in half precision.
        with torch.autocast(logits.device.type, enabled=False):
            _, terms, _ = self.model.loss_function(
                logits[:, -1],
                [labels],
                logits.device,
                boxes[:, -1],
                self.model.config,
                outputs_class=logits,
                outputs_coord=boxes,
                enc_topk_logits=alone("enc_topk_logits"),
                enc_topk_bboxes=alone("enc_topk_bboxes"),
                predicted_corners=alone("intermediate_predicted_corners"),
                initial_reference_points=alone("initial_reference_points"),
            )
        sums: dict[str, Tensor] = {}
        for name, value in terms.items():  # loss_vfl, loss_vfl_aux_0, ...
            kind = name.split("_")[1]
            sums[kind] = sums[kind] + value if kind in sums else value
        return sums

    def disagreement(self, images: Sequence[Tensor], by_day: Sequence[Tensor]) -> Tensor:
        """Of the backbone's levels, see `features_apart`."""
        self.model.eval()
        values: dict[int, Tensor] = {}
        pairs = zip(self._batches(images), self._batches(by_day), strict=True)
        for (indices, batch), (_, day) in pairs:
            seen = self._features(batch)
            with torch.no_grad():
                wanted = self._features(day)
            for n, value in zip(indices, features_apart(seen, wanted), strict=True):
                values[n] = value
        return torch.stack([values[n] for n in range(len(images))])

    def _features(self, batch: Tensor) -> list[Tensor]:
        """The backbone's levels, each (B, C, h, w)."""
        everywhere = torch.ones(batch.shape[0], *batch.shape[2:], dtype=torch.bool).to(batch.device)
        levels = self.model.model.backbone(batch, everywhere)
        return [features for features, _ in levels]

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """As many boxes as there are queries; no suppression, which these detectors do without."""
        self.model.eval()
        found: dict[int, Detections] = {}
        with torch.no_grad():
            for indices, batch in self._batches(images):
                outputs = self.model(batch)
                rows = zip(indices, outputs.logits, outputs.pred_boxes, strict=True)
                for n, logits, boxes in rows:
                    found[n] = _detections(logits.float(), boxes.float(), images[n])
        return [found[n] for n in range(len(images))]


def _ask_for_plain_gradient(module: nn.Module, given: Any, output: Tensor) -> None:
    """On the CPU PyTorch's BatchNorm computes a wrong gradient for a batch of one when what comes
    back to it has its channels last in memory (seen in 2.15), as it has from the attention here."""
    if output.requires_grad:
        output.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]


def _scaled(image: Tensor, shape: tuple[int, int]) -> Tensor:
    return functional.interpolate(
        image[None], shape, mode="bilinear", align_corners=False, antialias=True
    )


def _extent(image: Tensor) -> Tensor:
    """(4,) width, height, width, height of (3, H, W)."""
    height, width = image.shape[1:]
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=image.device)


def _labels(target: Target, image: Tensor) -> dict[str, Tensor]:
    """What the library's losses take: boxes (N, 4) as centre and size in shares of the image."""
    from torchvision.ops import box_convert

    shares = target.boxes.float() / _extent(image)
    return {"class_labels": target.labels - 1, "boxes": box_convert(shares, "xyxy", "cxcywh")}


def _detections(logits: Tensor, boxes: Tensor, image: Tensor) -> Detections:
    """Of logits (Q, C) and boxes (Q, 4): the Q best pairs of query and class, inside the image."""
    from torchvision.ops import box_convert

    scores, best = logits.sigmoid().flatten().topk(len(boxes))
    queries, labels = best // logits.shape[1], best % logits.shape[1]
    extent = _extent(image)
    corners = (box_convert(boxes[queries], "cxcywh", "xyxy") * extent).clamp(min=0.0)
    corners = corners.minimum(extent)
    some = (corners[:, 2:] > corners[:, :2]).all(dim=1)
    return Detections(corners[some], scores[some], labels[some] + 1)


# Published configurations spell these as Pascal VOC did; data sets spell them as COCO does.
_OLD_SPELLING = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}


def build(name: str, categories: Sequence[str] | None = None) -> TransformersGuide:
    """A detector with random weights, for these categories or COCO's 80."""
    names = coco_categories() if categories is None else tuple(categories)
    config_class, model_class = _classes(name)
    with _quietly():
        return TransformersGuide(model_class(_configured(config_class, name, names)), names)


def from_source(
    name: str, folder: str | None = None, categories: Sequence[str] | None = None
) -> TransformersGuide:
    """With the published weights (downloaded once), or from a folder that `save_pretrained` wrote.

    categories: names by label, instead of the configuration's. Raises UsageError when the weights
    cannot be downloaded, CheckpointError for a folder that does not fit.
    """
    config_class, model_class = _classes(name)
    source, local = PUBLISHED[name].hub if folder is None else folder, folder is not None
    shown = display_path(source)
    try:
        with _quietly():
            said, _ = config_class.get_config_dict(source, local_files_only=local)
            if said.get("model_type") != config_class.model_type:
                raise ValueError(f"its configuration is of type {said.get('model_type')}")
            config = _from_said(config_class, said)
            names = _names(config, categories)
            model, found = model_class.from_pretrained(
                source, config=config, local_files_only=local, **_TELL
            )
    except UsageError:
        raise
    except Exception as error:  # OSError, and whatever the client, safetensors and pickle raise
        if local:
            raise _misfit(name, shown, _short(error)) from None
        raise UsageError(
            f"{name}: its weights ({source}) cannot be downloaded ({_short(error)}); give a file "
            "or a folder with --detector-weights"
        ) from None
    # What is published may have kept tensors that this version has no use for.
    _check_complete(name, shown, found if local else {**found, "unexpected_keys": ()})
    return TransformersGuide(model.float(), names)


def from_tensors(
    name: str,
    tensors: Mapping[str, Tensor],
    shown: str,
    categories: Sequence[str] | None = None,
    configuration: Mapping[str, Any] | None = None,
) -> TransformersGuide:
    """From a state dict of the model, with keys of this or an older version of transformers.

    shown: its file, for messages. configuration: of the model, where it is not the published one
    with these categories. Raises CheckpointError.
    """
    config_class, model_class = _classes(name)
    advice = "" if categories else "; name its classes with --detector-classes"
    try:
        with _quietly():
            if configuration is None:
                names = coco_categories() if categories is None else tuple(categories)
                config = _configured(config_class, name, names)
            else:
                config = _from_said(config_class, configuration)
                names = _names(config, categories)
            # The library's loader and not load_state_dict, as it knows the keys of older versions.
            model, found = model_class.from_pretrained(
                None, config=config, state_dict=dict(tensors), **_TELL
            )
    except UsageError:
        raise
    except Exception as error:  # tensors that are none, a configuration that is none
        raise _misfit(name, shown, _short(error), advice) from None
    _check_complete(name, shown, found, advice)
    return TransformersGuide(model.float(), names)


def coco_categories() -> tuple[str, ...]:
    """COCO's 80, in the order of these detectors' labels."""
    from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights as Weights

    listed = Weights.COCO_V1.meta["categories"]
    return tuple(name for name in listed if name not in ("__background__", "N/A"))


def _classes(name: str) -> tuple[Any, Any]:
    """Configuration and model. UsageError."""
    kind = PUBLISHED[name].kind
    try:
        import scipy.optimize  # noqa: F401  (the library's loss matches with it)
        import transformers

        return getattr(transformers, f"{kind}Config"), getattr(
            transformers, f"{kind}ForObjectDetection"
        )
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{name} needs transformers and scipy ({_short(error)}); "
            f"{install_advice('transformers')}"
        ) from None


# Anchors and position codes made for one size in advance; without, they are made for any.
_ANY_SIZE = {"anchor_image_size": None, "eval_size": None}


def _configured(config_class: Any, name: str, names: Sequence[str]) -> Any:
    labels = dict(enumerate(names))
    settings = copy.deepcopy(PUBLISHED[name].settings)  # the library takes things out
    back = {category: label for label, category in labels.items()}
    return config_class(**settings, **_ANY_SIZE, id2label=labels, label2id=back)


def _from_said(config_class: Any, said: Mapping[str, Any]) -> Any:
    return config_class.from_dict({**said, **_ANY_SIZE})


def _names(config: Any, categories: Sequence[str] | None) -> tuple[str, ...]:
    """Of the model's labels: those given, else the configuration's."""
    if categories is not None:
        if len(categories) != config.num_labels:
            raise UsageError(
                f"--detector-classes names {len(categories)} classes; the detector has "
                f"{config.num_labels}"
            )
        return tuple(categories)
    names = tuple(config.id2label[label] for label in range(config.num_labels))
    spelt = tuple(_OLD_SPELLING.get(name, name) for name in names)
    return spelt if spelt == coco_categories() else names


# What does not fit is told, and judged here.
_TELL: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}


def _check_complete(name: str, shown: str, found: Mapping[str, Any], advice: str = "") -> None:
    """CheckpointError when parts of the model would be left random, or of the file unused."""
    for what in ("mismatched", "missing", "unexpected"):
        listed = found[f"{what}_keys"]
        names = sorted(key if isinstance(key, str) else key[0] for key in listed)  # or with shapes
        names = [key for key in names if not key.endswith("num_batches_tracked")]
        if names:
            reason = f"{len(names)} tensors are {what}, such as {names[0]}"
            raise _misfit(name, shown, reason, advice)


def _misfit(name: str, shown: str, reason: str, advice: str = "") -> CheckpointError:
    return CheckpointError(f"{shown}: does not fit {name} ({reason}){advice}")


def _short(error: Exception) -> str:
    """The first sentence."""
    return " ".join(str(error).split()).split(". ")[0][:200].rstrip(".")


@contextmanager
def _quietly() -> Iterator[None]:
    """transformers without its log, its progress bars and its warnings."""
    from transformers.utils import logging as theirs

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = theirs.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        theirs.disable_progress_bar()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if bars:
                theirs.enable_progress_bar()
