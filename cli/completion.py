"""What the shell offers for options whose values are names; quick, since somebody waits for it.

Paths are left to the shell: where nothing of ours fits, it offers files. Choices that a command
lists in its help complete by themselves.
"""

from __future__ import annotations

# As `rawisp.detect.guide_names` says, which takes seconds to import PyTorch; a test compares them.
DETECTORS = (
    "tiny",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
    "rtdetr_r18",
    "rtdetr_r34",
    "rtdetr_r50",
    "rtdetr_r101",
    "rtdetr_v2_r18",
    "rtdetr_v2_r34",
    "rtdetr_v2_r50",
    "rtdetr_v2_r101",
    "dfine_n",
    "dfine_s",
    "dfine_m",
    "dfine_l",
    "dfine_x",
)


def checkpoints(incomplete: str) -> list[str]:
    """Shipped checkpoints."""
    from rawisp.checkpoint.load import SHIPPED

    return [name for name in SHIPPED if name.startswith(incomplete)]


def isps(incomplete: str) -> list[str]:
    """ISPs that can be trained, plug-ins included."""
    from rawisp.isp.registry import isp_names

    return [name for name in isp_names() if name.startswith(incomplete)]


def baselines(incomplete: str) -> list[str]:
    """ISPs without parameters."""
    names = ("classic", "rawpy-default", "demosaic")
    return [name for name in names if name.startswith(incomplete)]


def detectors(incomplete: str) -> list[str]:
    """Detectors by name."""
    return [name for name in DETECTORS if name.startswith(incomplete)]


def devices(incomplete: str) -> list[str]:
    """Where PyTorch may work."""
    return [name for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]


def cameras(incomplete: str) -> list[str]:
    """Bodies that `synth` knows."""
    from rawisp.data.synth.bodies import BODIES

    return [name for name in BODIES if name.startswith(incomplete)]
