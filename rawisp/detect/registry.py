"""Guides by name, by file, or from the user's own factory."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from rawisp.detect import transformers_models
from rawisp.detect.base import Guide
from rawisp.detect.transformers_zoo import PUBLISHED
from rawisp.detect.weights import KEY, Weights, read_weights, said_of, unwrapped
from rawisp.errors import CheckpointError, UsageError, display_path
from rawisp.extras import install_advice

TINY = "tiny"
RANDOM = "random"  # as weights: none, for tests and for training a detector from the start


def guide_names() -> list[str]:
    """The built-in names that `create_guide` takes."""
    from rawisp.detect.torchvision_models import NAMES

    return [TINY, *NAMES, *PUBLISHED]


def create_guide(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    *,
    categories: Sequence[str] | None = None,
) -> Guide:
    """A detector, in evaluation mode, on the CPU.

    Parameters
    ----------
    name : "tiny"; one of torchvision's names, such as "retinanet_resnet50_fpn_v2"; one of
        transformers', such as "rtdetr_r18"; or "module:factory", where
        `factory(weights, categories)` returns a `Guide`.
    weights : a file: safetensors that rawisp wrote, or a state dict (.pth, opened with
        weights_only), alone or as training scripts keep it: below "model" or "state_dict", with
        names that begin with "module." or "model."; averaged ones below "ema" are taken first,
        which `guide.notes` says. For transformers also a folder that `save_pretrained` wrote.
        None: COCO's, downloaded once, and the shipped ones for tiny. "random": none.
    categories : names of the classes that the weights were trained on, by label from 1, where the
        file does not say.

    Raises UsageError for an unknown name or a factory that fails, CheckpointError for a bad file.
    """
    check_guide(name, weights, categories=categories)
    if ":" in name:
        return _from_factory(name, weights, categories)
    if weights is None and name == TINY:
        weights = str(resources.files("rawisp.detect.shipped") / "tiny.safetensors")
    if weights is None or os.fspath(weights) == RANDOM:
        return _built(name, weights is None, categories)
    return _from_file(name, os.fspath(weights), categories)


def _built(name: str, pretrained: bool, categories: Sequence[str] | None) -> Guide:
    if name == TINY:
        from rawisp.detect.tiny import build_tiny

        return build_tiny(categories or ("person", "bicycle", "car"))
    if name in PUBLISHED:
        if pretrained:
            return transformers_models.from_source(name, None, categories)
        return transformers_models.build(name, categories)
    from rawisp.detect.torchvision_models import build

    listed = None if categories is None else (None, *categories)
    return build(name, pretrained=pretrained, categories=listed)


def _from_file(name: str, path: str, categories: Sequence[str] | None) -> Guide:
    shown = display_path(path)
    if name in PUBLISHED and os.path.isdir(path):
        return transformers_models.from_source(name, path, categories)
    found = read_weights(path, shown)
    said = found.said
    if said is not None:
        _same_detector(said, name, shown)
        categories = said["categories"]
    if name in PUBLISHED:
        tensors = unwrapped(found.tensors)
        if said is not None:  # with the guide's prefix before each key
            tensors = {key.removeprefix("model."): value for key, value in found.tensors.items()}
        configuration = None if said is None else said.get("configuration")
        guide: Guide = transformers_models.from_tensors(
            name, tensors, shown, categories, configuration
        )
        return _noted(guide, found, shown)
    guide = _built(name, False, categories)
    advice = "" if categories else "; name its classes with --detector-classes"
    target = guide if said is not None else getattr(guide, "model", guide)
    _load(target, found, shown, f"does not fit {name}", advice)
    return _noted(guide, found, shown)


def _same_detector(said: dict[str, Any], name: str, shown: str) -> None:
    if said["name"] != name:
        raise CheckpointError(f"{shown}: holds the weights of {said['name']}, not of {name}")


def _load(target: Any, found: Weights, shown: str, what: str, advice: str) -> None:
    try:
        target.load_state_dict(found.for_keys(target.state_dict()), strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{shown}: {what} ({reason}){advice}") from None


def _noted(guide: Guide, found: Weights, shown: str) -> Guide:
    if found.averaged:
        guide.notes = (
            f"{shown}: holds averaged weights (EMA) besides the last ones; the averaged "
            "ones are taken",
        )
    return guide


def save_guide(
    guide: Guide,
    name: str,
    path: str | os.PathLike[str],
    *,
    begun_with: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Writes a guide with its categories, by atomic rename. Raises OSError.

    begun_with, classes: for a guide of the user's own, "module:factory", the file and the classes
    that its factory was called with, with which `create_guide` calls it again before it loads
    these weights.
    """
    from safetensors.torch import save

    said: dict[str, Any] = {"name": name, "categories": list(guide.categories[1:])}
    if ":" in name:
        said["begun_with"] = None if begun_with is None else os.fspath(begun_with)
        said["classes"] = None if classes is None else list(classes)
    if name in PUBLISHED:
        said["configuration"] = guide.configuration
    tensors = {key: _copy(value) for key, value in guide.state_dict().items()}
    temporary = f"{os.fspath(path)}.rawisp-tmp"
    try:
        Path(temporary).write_bytes(save(tensors, metadata={KEY: json.dumps(said)}))
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _copy(tensor: Any) -> Any:
    """safetensors refuses tensors that share memory, as the heads of some detectors do."""
    import torch

    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def check_guide(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    *,
    categories: Sequence[str] | None = None,
) -> None:
    """What `create_guide` would refuse at once: it builds, downloads and opens nothing.

    Raises UsageError, CheckpointError.
    """
    _torchvision_required()
    if ":" in name:
        _factory(name)
    elif name not in guide_names():
        raise UsageError(
            f"no detector is called {name!r}; there are {', '.join(guide_names())}, and "
            "module:factory for your own"
        )
    if weights is None or os.fspath(weights) == RANDOM or ":" in name:
        return
    if not os.path.exists(weights):
        raise CheckpointError(f"{display_path(weights)}: there is no such file of weights")
    said = said_of(weights)
    if said is not None:
        _same_detector(said, name, display_path(weights))


def _factory(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"--detector {name}: cannot be imported ({error}); the module must be installed or lie "
            "in a folder on PYTHONPATH"
        ) from None


def _from_factory(
    name: str, weights: str | os.PathLike[str] | None, categories: Sequence[str] | None
) -> Guide:
    factory = _factory(name)
    said = None if weights is None else said_of(weights)
    if weights is None or said is None:
        return _of_factory(
            name, factory, None if weights is None else os.fspath(weights), categories
        )
    shown = display_path(weights)
    _same_detector(said, name, shown)
    before = said.get("begun_with")
    if before is not None and before != RANDOM and not os.path.exists(before):
        raise CheckpointError(
            f"{shown}: was begun with the weights {display_path(before)}, which {name} needs and "
            "which are not there any more; put them back, or call rawisp where it was called before"
        )
    guide = _of_factory(name, factory, before, categories or said.get("classes"))
    found = read_weights(os.fspath(weights), shown)
    _load(guide, found, shown, f"does not fit what {name} returned", "")
    return guide


def _of_factory(
    name: str, factory: Any, weights: str | None, categories: Sequence[str] | None
) -> Guide:
    guide = factory(weights, categories)
    missing = [part for part in ("losses", "detect", "categories") if not hasattr(guide, part)]
    if not isinstance(guide, Guide) or missing:
        raise UsageError(
            f"--detector {name}: returned {type(guide).__name__}; it must return a subclass of "
            "rawisp.detect.Guide"
        )
    return guide


def _torchvision_required() -> None:
    try:
        import torchvision  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"detectors need torchvision ({error}); {install_advice('train')}"
        ) from None
    except RuntimeError as error:  # "operator torchvision::nms does not exist"
        raise UsageError(
            f"torchvision does not fit this PyTorch ({error}); install both from the same index: "
            "pip install --upgrade torch torchvision"
        ) from None
