"""People on foot and on bicycles, and the bicycles.

Figures are drawn from a three-dimensional skeleton turned by `yaw` (0 = going away from the
camera, pi/2 = going right, pi = coming closer), so that side, front and slanted views all come
from one description.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import cos, hypot, pi, sin, sqrt

import numpy as np

from .drawing import DARK, LACQUER, Colour, Layer, Paint, Point, dim, pick

Joint = tuple[float, float, float]  # lateral (to the figure's right), up, forward; metres

SKIN: tuple[Colour, ...] = (
    (0.58, 0.38, 0.29),
    (0.48, 0.29, 0.20),
    (0.33, 0.19, 0.12),
    (0.17, 0.09, 0.06),
)
HAIR: tuple[Colour, ...] = (
    (0.02, 0.016, 0.013),
    (0.06, 0.035, 0.02),
    (0.22, 0.13, 0.06),
    (0.30, 0.29, 0.28),
)
CLOTH: tuple[Colour, ...] = (
    (0.05, 0.06, 0.09),
    (0.03, 0.03, 0.035),
    (0.10, 0.12, 0.20),
    (0.45, 0.06, 0.06),
    (0.12, 0.28, 0.42),
    (0.55, 0.52, 0.46),
    (0.65, 0.40, 0.06),
    (0.10, 0.26, 0.13),
    (0.34, 0.22, 0.13),
    (0.62, 0.62, 0.64),
    (0.38, 0.12, 0.28),
    (0.22, 0.22, 0.23),
)
TROUSERS: tuple[Colour, ...] = (
    (0.05, 0.07, 0.14),
    (0.035, 0.035, 0.04),
    (0.12, 0.16, 0.26),
    (0.28, 0.23, 0.16),
    (0.15, 0.15, 0.15),
)


def _bend(a: Point, b: Point, upper: float, lower: float, sign: float) -> Point:
    """The middle joint of a two-bone limb from `a` to `b`, bent to the `sign` side."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    span = max(hypot(dx, dy), 1e-6)
    reach = min(span, (upper + lower) * 0.999)
    along = (upper**2 - lower**2 + reach**2) / (2 * reach)
    out = sign * sqrt(max(upper**2 - along**2, 0.0))
    return (a[0] + (dx * along - dy * out) / span, a[1] + (dy * along + dx * out) / span)


@dataclass(frozen=True)
class Pose:
    """Joints of a body; `limbs` pairs are (left, right)."""

    hip: Joint
    chest: Joint
    head: Joint
    knees: tuple[Joint, Joint]
    feet: tuple[Joint, Joint]
    elbows: tuple[Joint, Joint]
    hands: tuple[Joint, Joint]


def walking_pose(rng: np.random.Generator, h: float) -> Pose:
    """A person of height `h` walking, or standing when the stride comes out small."""
    stride = float(rng.uniform(0.22, 0.5)) if rng.random() < 0.75 else float(rng.uniform(0, 0.1))
    lead = 1.0 if rng.random() < 0.5 else -1.0
    bone = 0.245 * h
    knees, feet, elbows, hands = [], [], [], []
    chest_up, arm = 0.82 * h, 0.165 * h
    for side in (-1.0, 1.0):
        swing = stride * side * lead
        flex = 0.08 + (0.9 * stride if swing < 0 else 0.05)
        knee = (bone * sin(swing), 0.52 * h - bone * cos(swing))
        foot = (knee[0] + bone * sin(swing - flex), knee[1] - bone * cos(swing - flex))
        knees.append((side * 0.05 * h, knee[1], knee[0]))
        feet.append((side * 0.052 * h, foot[1], foot[0]))
        back = -0.9 * swing
        crook = float(rng.uniform(0.2, 0.6)) if rng.random() < 0.8 else 1.7
        elbow = (arm * sin(back), chest_up - arm * cos(back))
        hand = (elbow[0] + arm * sin(back + crook), elbow[1] - arm * cos(back + crook))
        elbows.append((side * 0.15 * h, elbow[1], elbow[0]))
        hands.append((side * (0.15 if crook < 1 else 0.07) * h, hand[1], hand[0]))
    drop = min(f[1] for f in feet) - 0.025 * h
    shift: Callable[[Joint], Joint] = lambda j: (j[0], j[1] - drop, j[2])  # noqa: E731
    lean = 0.02 * h if stride > 0.15 else 0.0
    return Pose(
        shift((0.0, 0.52 * h, 0.0)),
        shift((0.0, chest_up, lean)),
        shift((0.0, 0.925 * h, lean * 1.6)),
        (shift(knees[0]), shift(knees[1])),
        (shift(feet[0]), shift(feet[1])),
        (shift(elbows[0]), shift(elbows[1])),
        (shift(hands[0]), shift(hands[1])),
    )


def riding_pose(rng: np.random.Generator, h: float) -> Pose:
    """A person of height `h` on the bicycle that `draw_bicycle` draws."""
    crank = float(rng.uniform(0, 2 * pi))
    hip = (-0.2, 1.0)
    chest = (0.02 + float(rng.uniform(0, 0.12)), 1.0 + 0.29 * h)
    knees, feet, elbows, hands = [], [], [], []
    for side in (-1.0, 1.0):
        turn = crank + (pi if side > 0 else 0.0)
        foot = (0.0 + 0.17 * cos(turn), 0.31 + 0.17 * sin(turn))
        knee = _bend(hip, foot, 0.25 * h, 0.25 * h, 1.0)
        grip = (0.37, 1.06)
        elbow = _bend(chest, grip, 0.165 * h, 0.165 * h, -1.0)
        knees.append((side * 0.09, knee[1], knee[0]))
        feet.append((side * 0.1, foot[1], foot[0]))
        elbows.append((side * 0.25, elbow[1], elbow[0]))
        hands.append((side * 0.24, grip[1], grip[0]))
    head = (0.0, chest[1] + 0.125 * h, chest[0] + 0.06)
    return Pose(
        (0.0, hip[1], hip[0]),
        (0.0, chest[1], chest[0]),
        head,
        (knees[0], knees[1]),
        (feet[0], feet[1]),
        (elbows[0], elbows[1]),
        (hands[0], hands[1]),
    )


def draw_person(
    layer: Layer, rng: np.random.Generator, h: float, yaw: float, pose: Pose, walker: bool
) -> None:
    """Paint a clothed body in `pose`; walkers may carry a bag or an umbrella."""
    c, s = cos(yaw), sin(yaw)
    flat: Callable[[Joint], Point] = lambda j: (j[0] * c + j[2] * s, j[1])  # noqa: E731
    skin, hair, top = pick(rng, SKIN), pick(rng, HAIR), pick(rng, CLOTH)
    legs, shoe = pick(rng, TROUSERS), pick(rng, ((0.03, 0.03, 0.03), (0.4, 0.4, 0.4)))
    stout = float(rng.uniform(0.95, 1.25))
    style = float(rng.random())
    coat = walker and style < 0.35
    skirt = walker and 0.35 <= style < 0.47
    sides = (0, 1) if s > 0 else (1, 0)  # the right side is nearer when going right
    near = {sides[0]: 0.8, sides[1]: 1.0}

    def leg(i: int) -> None:
        bare = skin if skirt else legs
        cloth = Paint(dim(bare, near[i]), bevel=0.05 * h)
        hip, knee, foot = flat((pose.knees[i][0] * 0.9, *pose.hip[1:])), pose.knees[i], pose.feet[i]
        toe = flat((foot[0], foot[1] - 0.005 * h, foot[2] + 0.075 * h))
        heel = flat((foot[0], foot[1], foot[2] - 0.01 * h))
        layer.capsule(heel, toe, 0.024 * h, Paint(dim(shoe, near[i]), bevel=0.02 * h), 0.018 * h)
        layer.capsule(flat(knee), flat(foot), 0.04 * h * stout, cloth, 0.027 * h)
        layer.capsule(hip, flat(knee), 0.053 * h * stout, cloth, 0.042 * h * stout)

    def arm(i: int) -> None:
        sleeve = Paint(dim(top, 0.85 * near[i]), bevel=0.03 * h)
        shoulder = flat(((-0.105, 0.105)[i] * h * stout, pose.chest[1] - 0.025 * h, pose.chest[2]))
        elbow, hand = flat(pose.elbows[i]), flat(pose.hands[i])
        layer.capsule(shoulder, elbow, 0.034 * h * stout, sleeve, 0.029 * h)
        layer.capsule(elbow, hand, 0.028 * h, sleeve, 0.022 * h)
        layer.ellipse(hand, (0.021 * h, 0.024 * h), Paint(skin, bevel=0.02 * h))

    carry = float(rng.random()) if walker else 1.0
    leg(sides[0])
    arm(sides[0])
    chest, hip, head = flat(pose.chest), flat(pose.hip), flat(pose.head)
    if carry < 0.22 and c <= 0.3:  # a rucksack behind the back
        pack = flat((0.0, pose.chest[1] - 0.1 * h, pose.chest[2] - 0.11 * h))
        layer.ellipse(pack, (0.085 * h, 0.125 * h), Paint(pick(rng, CLOTH), bevel=0.06 * h))
    leg(sides[1])
    wide, deep = 0.086 * stout, 0.046 * stout
    shoulders = h * (wide * abs(c) + deep * abs(s))
    waist = h * (0.068 * abs(c) + 0.052 * abs(s)) * stout
    body = Paint(top, bevel=0.09 * h)
    hang: list[Point] = []
    if coat or skirt:
        hem = -0.2 * h if coat else -0.24 * h
        flare = waist + h * float(rng.uniform(0.02, 0.05))
        hang = [(hip[0] - waist, hip[1]), (hip[0] + waist, hip[1])]
        hang += [(hip[0] + flare, hip[1] + hem), (hip[0] - flare, hip[1] + hem)]
        if skirt:
            layer.polygon(hang, Paint(pick(rng, CLOTH), bevel=0.09 * h), 0.025 * h)
    trunk = [(chest[0] - shoulders, chest[1] - 0.035 * h), (chest[0] - 0.35 * shoulders, chest[1])]
    trunk += [(chest[0] + 0.35 * shoulders, chest[1]), (chest[0] + shoulders, chest[1] - 0.035 * h)]
    trunk += [*hang[1:], hang[0]] if coat else [(hip[0] + waist, hip[1]), (hip[0] - waist, hip[1])]
    layer.polygon(trunk, body, 0.028 * h)
    if walker and style > 0.8:  # an open jacket's shirt, or a belt line
        layer.capsule((hip[0] - waist, hip[1]), (hip[0] + waist, hip[1]), 0.012 * h, Paint(DARK))
    if carry < 0.22 and c > 0.3:
        pack = (chest[0], chest[1] - 0.1 * h)
        layer.ellipse(pack, (0.09 * h, 0.13 * h), Paint(pick(rng, CLOTH), bevel=0.06 * h))
    layer.capsule(chest, head, 0.03 * h, Paint(dim(skin, 0.8), bevel=0.03 * h))
    mop = (head[0] - 0.02 * h * s, head[1] + 0.014 * h)
    face = Paint(skin, bevel=0.05 * h)
    crown = Paint(hair, bevel=0.05 * h)
    if c < 0.5:
        layer.ellipse(mop, (0.057 * h, 0.063 * h), crown)
        layer.ellipse((head[0] + 0.012 * h * s, head[1] - 0.008 * h), (0.045 * h, 0.06 * h), face)
    else:
        layer.ellipse((head[0], head[1] - 0.012 * h), (0.05 * h, 0.06 * h), face)
        layer.ellipse(mop, (0.056 * h, 0.064 * h), crown)
    if rng.random() < (0.3 if walker else 0.6):  # a cap, a woollen hat or a helmet
        hat = [
            (head[0] + 0.055 * h * cos(t), head[1] + 0.02 * h + 0.058 * h * sin(t))
            for t in np.linspace(0, pi, 9)
        ]
        layer.polygon(hat, Paint(pick(rng, CLOTH), bevel=0.05 * h), 0.006 * h)
    arm(sides[1])
    hand = flat(pose.hands[sides[1]])
    if 0.22 <= carry < 0.42:  # a shopping bag or a handbag
        bag = Paint(pick(rng, CLOTH), bevel=0.03 * h)
        corners = [
            (hand[0] + x * h, hand[1] + y * h)
            for x, y in ((-0.03, -0.05), (0.03, -0.05), (0.045, -0.16), (-0.045, -0.16))
        ]
        layer.polygon(corners, bag, 0.012 * h)
        layer.capsule(hand, (hand[0], hand[1] - 0.06 * h), 0.006 * h, bag)
    elif 0.42 <= carry < 0.54:  # an umbrella, which is not part of the person's box
        shade = Paint(pick(rng, CLOTH), bevel=0.25 * h, body=False)
        tip = (head[0] + 0.05 * h * s, head[1] + 0.3 * h)
        layer.capsule((hand[0], hand[1]), tip, 0.006 * h, Paint((0.3, 0.3, 0.3), body=False))
        dome = [
            (tip[0] + 0.31 * h * cos(t), tip[1] - 0.17 * h + 0.17 * h * sin(t))
            for t in np.linspace(0, pi, 15)
        ]
        layer.polygon(dome, shade)


def draw_bicycle(layer: Layer, rng: np.random.Generator, yaw: float, lit: bool) -> None:
    """Paint a bicycle (wheels on the ground at +-0.52 m); `lit` switches its lamps on."""
    c, s = cos(yaw), sin(yaw)
    flat: Callable[[float, float], Point] = lambda f, u: (f * s, u)  # noqa: E731
    frame = Paint(dim(pick(rng, LACQUER), 1.1), bevel=0.02, gloss=0.3)
    metal, black = Paint((0.45, 0.45, 0.46), gloss=0.4), Paint(DARK, bevel=0.02)
    r, rear, front = 0.33, (-0.5, 0.345), (0.55, 0.345)
    for hub in (rear, front):
        centre = flat(*hub)
        across = max(r * abs(s), 0.03)
        layer.ellipse(centre, (across, r), Paint((0.3, 0.3, 0.3), opacity=0.05, body=False))
        for k in range(9):
            t = 2 * pi * k / 9 + 0.3
            rim = (centre[0] + across * cos(t), centre[1] + r * sin(t))
            layer.capsule(centre, rim, 0.002, Paint((0.5, 0.5, 0.5), opacity=0.16))
        layer.ellipse(centre, (across * 0.93, r * 0.93), metal, line=0.018)
        layer.ellipse(centre, (across, r), black, line=0.042)
        layer.ellipse(centre, (0.035, 0.035), metal)
    crank, seat, head = (-0.02, 0.30), (-0.19, 0.86), (0.36, 0.86)
    low = (0.40, 0.72)
    step = rng.random() < 0.35  # a step-through frame
    tubes = [(crank, seat), (crank, low), (crank, rear), (rear, (-0.16, 0.78)), (head, front)]
    tubes.append(((-0.10, 0.55), low) if step else ((-0.17, 0.80), (0.375, 0.82)))
    for a, b in tubes:
        layer.capsule(flat(*a), flat(*b), 0.02, frame)
    layer.capsule(flat(*seat), flat(-0.2, 0.95), 0.013, metal)
    layer.capsule(flat(-0.32, 0.965), flat(-0.07, 0.96), 0.035, black, 0.02)
    layer.capsule(flat(*head), flat(0.34, 1.0), 0.014, metal)
    bar = 0.26 * c
    grip = flat(0.27, 1.06)
    layer.capsule(flat(0.34, 1.01), flat(0.42, 1.05), 0.015, metal)
    layer.capsule((grip[0] - bar, grip[1]), (grip[0] + bar, grip[1]), 0.018, black)
    layer.capsule(grip, flat(0.42, 1.05), 0.016, black)
    layer.ellipse(flat(*crank), (0.09 * max(abs(s), 0.2), 0.09), metal, line=0.02)
    layer.capsule(flat(-0.11, 0.16), flat(0.07, 0.44), 0.012, black)
    if rng.random() < 0.45:  # mudguards
        for hub in (rear, front):
            arc = [
                flat(hub[0] + 0.37 * cos(t), hub[1] + 0.37 * sin(t))
                for t in np.linspace(0.5, 2.7, 8)
            ]
            for a, b in pairwise(arc):
                layer.capsule(a, b, 0.011, frame)
    if rng.random() < 0.4:  # a basket in front
        x, y = flat(0.55, 0.93)
        half = 0.15 * abs(s) + 0.17 * abs(c)
        corners = [(x - half, y + 0.12), (x + half, y + 0.12)]
        corners += [(x + half * 0.8, y - 0.1), (x - half * 0.8, y - 0.1)]
        layer.polygon(corners, Paint((0.25, 0.18, 0.1), opacity=0.8, bevel=0.05))
    if not lit or rng.random() < 0.5:  # a rear rack
        layer.capsule(flat(-0.66, 0.72), flat(-0.22, 0.74), 0.014, black)
        layer.capsule(flat(-0.62, 0.72), flat(*rear), 0.01, black)
    white = (3.0, 3.1, 3.3) if lit and c < 0.5 else (0.0, 0.0, 0.0)
    red = (0.8, 0.012, 0.008) if lit and c > -0.5 else (0.0, 0.0, 0.0)
    layer.ellipse(flat(0.44, 0.86), (0.035, 0.04), Paint((0.6, 0.6, 0.6), glow=white))
    layer.ellipse(flat(-0.6, 0.66), (0.03, 0.03), Paint((0.4, 0.03, 0.03), glow=red))
