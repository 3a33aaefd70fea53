"""The same few images after each epoch, to look at."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from rawisp.data.prepared import PreparedImage
from rawisp.isp.base import Isp

FOLDER = "previews"
_WIDTH = 480  # of each picture in the sheet


def draw_previews(
    isp: Isp, images: Sequence[PreparedImage], folder: str, epoch: int, device: torch.device
) -> str | None:
    """RUN/previews/epoch_003.jpg: the images below each other, boxes drawn. Returns its path."""
    from PIL import Image, ImageDraw

    if not images:
        return None
    sheets = []
    for image in images:
        with torch.inference_mode():
            y = isp(torch.from_numpy(image.load())[None].to(device))[0]
        levels = (y.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        picture = Image.fromarray(_scaled(levels))
        scale = picture.width / image.size[0]
        draw = ImageDraw.Draw(picture)
        for box in image.boxes:
            draw.rectangle([float(v) * scale for v in box], outline=(255, 220, 0))
        sheets.append(picture)
    sheet = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)))
    top = 0
    for picture in sheets:
        sheet.paste(picture, (0, top))
        top += picture.height
    os.makedirs(os.path.join(folder, FOLDER), exist_ok=True)
    path = os.path.join(folder, FOLDER, f"epoch_{epoch:03}.jpg")
    sheet.save(path, quality=88)
    return path


def _scaled(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """At most _WIDTH wide, by averaging whole blocks of pixels."""
    step = max(1, -(-levels.shape[1] // _WIDTH))
    height, width = levels.shape[0] // step * step, levels.shape[1] // step * step
    blocks = levels[:height, :width].reshape(height // step, step, width // step, step, 3)
    averages: npt.NDArray[np.uint8] = blocks.mean(axis=(1, 3)).astype(np.uint8)
    return averages
