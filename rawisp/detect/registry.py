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
from rawisp.errors import CheckpointError, UsageError, display_path
from rawisp.extras import install_advice

TINY = "tiny"
RANDOM = "random"  # as weights: none, for tests and for training a detector from the start
_KEY = "rawisp-detector"


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
        weights_only); for transformers also a folder that `save_pretrained` wrote. None: COCO's,
        downloaded once, and the shipped ones for tiny. "random": none.
    categories : names of the classes that the weights were trained on, by label from 1, where the
        file does not say.

    Raises UsageError for an unknown name or a factory that fails, CheckpointError for a bad file.
    """
    _torchvision_required()
    if ":" in name:
        return _from_factory(name, weights, categories)
    if name not in guide_names():
        raise UsageError(
            f"no detector is called {name!r}; there are {', '.join(guide_names())}, and "
            "module:factory for your own"
        )
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
    tensors, said = _read_weights(path, shown)
    if said is not None:
        if said["name"] != name:
            raise CheckpointError(f"{shown}: holds the weights of {said['name']}, not of {name}")
        categories = said["categories"]
    if name in PUBLISHED:
        if said is not None:  # with the guide's prefix before each key
            tensors = {key.removeprefix("model."): value for key, value in tensors.items()}
        configuration = None if said is None else said.get("configuration")
        return transformers_models.from_tensors(name, tensors, shown, categories, configuration)
    guide = _built(name, False, categories)
    target = guide if said is not None else getattr(guide, "model", guide)
    try:
        target.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        advice = "" if categories else "; name its classes with --detector-classes"
        raise CheckpointError(f"{shown}: does not fit {name} ({reason}){advice}") from None
    return guide


def _read_weights(path: str, shown: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Tensors by name, and what rawisp wrote about them."""
    if not os.path.isfile(path):
        raise CheckpointError(f"{shown}: there is no such file of weights")
    try:
        if path.endswith(".safetensors"):
            from safetensors import safe_open
            from safetensors.torch import load_file

            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(_KEY)
            return load_file(path), None if text is None else json.loads(text)
        import torch

        found = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("model", "state_dict"):
            if isinstance(found, dict) and isinstance(found.get(key), dict):
                found = found[key]
        return dict(found), None
    except Exception as error:  # whatever safetensors, zipfile and the unpickler raise
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{shown}: cannot be read as weights ({reason}); save the model's state_dict()"
        ) from None


def save_guide(guide: Guide, name: str, path: str | os.PathLike[str]) -> None:
    """Writes a built-in guide with its categories, by atomic rename. Raises OSError."""
    import torch
    from safetensors.torch import save

    said: dict[str, Any] = {"name": name, "categories": list(guide.categories[1:])}
    if name in PUBLISHED:
        said["configuration"] = guide.configuration
    # Copies: safetensors refuses tensors that share memory, as the heads of some detectors do.
    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in guide.state_dict().items()
    }
    temporary = f"{os.fspath(path)}.rawisp-tmp"
    Path(temporary).write_bytes(save(tensors, metadata={_KEY: json.dumps(said)}))
    os.replace(temporary, path)


def _from_factory(
    name: str, weights: str | os.PathLike[str] | None, categories: Sequence[str] | None
) -> Guide:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"--detector {name}: cannot be imported ({error}); the module must be installed or lie "
            "in a folder on PYTHONPATH"
        ) from None
    guide = factory(None if weights is None else os.fspath(weights), categories)
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
