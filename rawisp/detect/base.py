"""What a detector must offer to guide an ISP, and what frozen means."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rawisp.errors import UsageError


@dataclass(frozen=True)
class Target:
    """The truth of one image.

    boxes: float32 (N, 4), x1, y1, x2, y2 in pixels of the image, edges continuous, positive area.
    labels: int64 (N,), index into the guide's `categories`. N may be 0.
    """

    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Detections:
    """What was found in one image: boxes as in `Target`, scores float32 (N,) in [0, 1], labels."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Guide(nn.Module):
    """A detector behind the interface that training, evaluation and reinforcement share.

    A subclass sets `categories`, the names by label (None for a label that means nothing), and
    writes `losses` and `detect`. Images are float32 (3, H, W), RGB in [0, 1], of any and different
    sizes; normalising (mean, std, channel order, size) is the detector's own business.
    """

    categories: tuple[str | None, ...] = ()
    # Whether `losses` and `disagreement` may run in several threads at once, one image each, which
    # trains faster on a CPU: true if they keep nothing in `self` and draw no random numbers.
    thread_safe = False
    # Sentences about where the weights come from, for whoever uses the guide to say once.
    notes: tuple[str, ...] = ()

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Loss terms by name, each (B,), one number per image; the sum is what training lowers.

        Must be differentiable with respect to the images, and must not depend on how images are
        put into batches. May not change parameters or buffers of a frozen detector.
        """
        raise NotImplementedError

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Boxes in pixels of each image, best first, in evaluation mode."""
        raise NotImplementedError

    def disagreement(self, images: Sequence[Tensor], by_day: Sequence[Tensor]) -> Tensor:
        """How differently the detector responds to renderings and to well-lit pictures, (B,).

        The second teacher of synthesized nights, which needs no boxes; pairs have equal sizes. No
        gradient flows into `by_day`. Optional: UsageError for a detector that does not offer it.
        """
        raise UsageError(
            f"{type(self).__name__} offers no disagreement(), which --day-response needs; use "
            "--day-weight alone"
        )

    def label_of(self, category: str) -> int | None:
        """The label of a category by its name, case and blanks aside; None when it has none."""
        wanted = category.strip().casefold()
        for label, name in enumerate(self.categories):
            if name is not None and name.casefold() == wanted:
                return label
        return None


def freeze(guide: nn.Module) -> None:
    """No gradients for parameters; evaluation mode, so that no running statistics move.

    `requires_grad_(False)` alone is not enough: one forward pass in training mode changes 159
    buffers of a ResNet-50 detector with plain BatchNorm.
    """
    guide.eval()
    guide.requires_grad_(False)


def thaw(guide: nn.Module) -> None:
    """Gradients for parameters again; BatchNorm keeps its statistics, as with small batches."""
    guide.requires_grad_(True)
    guide.eval()


def weights_hash(module: nn.Module) -> str:
    """sha256 over names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        # A copy, since one number may have a stride of 0, which cannot be viewed as bytes.
        plain = torch.cat([tensor.detach().cpu().reshape(-1), tensor.new_zeros(0, device="cpu")])
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
