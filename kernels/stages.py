"""The per-pixel stages of the `staged` ISP and their gradient, one image at a time.

Colour matrix, fading of clipped pixels, desaturation, roll-off, tone curve and gamma in one pass
over the pixels, where array operations make some twenty; nothing between them is stored: the way
back computes it again. Sums of gradients are float64. `rawisp.isp.staged` has the same formulas
as PyTorch operations, which the tests compare with.

Arrays: x (3, H, W) linear; matrix (3, 3); knots (17,) and steps (16,) of the tone curve, whose
piece k goes from knots[k] to knots[k] + steps[k]; encoded (3, H, W), what `encode` wrote. From
clip_start to clip_end, of the largest channel of x, pixels fade to their brightest colour; a
clip_end of 0 turns that off. Above `shoulder` values approach 1; a shoulder of 1 cuts them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rawisp.kernels.jit import kernel
from rawisp.kernels.vectors import dot, exponentials, logarithms

Number = np.float32
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
F64 = npt.NDArray[np.float64]

# Values below are raised to it in front of gamma, whose slope has no end at 0.
FLOOR = np.float32(1e-4)
ZERO, ONE, PIECES = np.float32(0.0), np.float32(1.0), np.float32(16.0)


@kernel
def mix(
    red: F32,
    green: F32,
    blue: F32,
    matrix: F32,
    clip_start: Number,
    clip_end: Number,
    mixed: F32,
    shares: F32,
    brightest: I32,
) -> None:
    """One row through the colour matrix, clipped pixels faded to their brightest channel.

    Writes mixed (3, W), shares (W,) of fading and, where there is any, the brightest channel (W,).
    """
    for n in range(red.size):
        a, b, c = red[n], green[n], blue[n]
        mixed[0, n] = matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c
        mixed[1, n] = matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c
        mixed[2, n] = matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2] * c
    if clip_end <= ZERO:
        shares[:] = ZERO
        return
    scale = ONE / (clip_end - clip_start)
    for n in range(red.size):
        level = max(red[n], max(green[n], blue[n]))
        share = min(max((level - clip_start) * scale, ZERO), ONE)
        top = np.int32(1) if mixed[1, n] > mixed[0, n] else np.int32(0)
        highest = max(mixed[0, n], mixed[1, n])
        brightest[n] = np.int32(2) if mixed[2, n] > highest else top
        highest = max(highest, mixed[2, n])
        for i in range(3):
            mixed[i, n] += share * (highest - mixed[i, n])
        shares[n] = share


@kernel
def desaturate(mixed: F32, amount: Number, faded: F32) -> None:
    """mixed (3, W) towards its mean by `amount`."""
    for n in range(mixed.shape[1]):
        grey = (mixed[0, n] + mixed[1, n] + mixed[2, n]) * np.float32(1.0 / 3.0)
        for i in range(3):
            faded[i, n] = mixed[i, n] + amount * (grey - mixed[i, n])


@kernel
def roll_off(faded: F32, shoulder: Number, line: F32, room: F32, rolled: F32, slope: F32) -> None:
    """Values (n,) into [0, 1], and the slope there; `line` and `room` are to work in.

    NaN stays NaN.
    """
    if shoulder >= ONE:
        for n in range(faded.size):
            value = faded[n]
            rolled[n] = ZERO if value < ZERO else (ONE if value > ONE else value)
            slope[n] = ZERO if value < ZERO or value > ONE else ONE
        return
    rest = ONE - shoulder
    scale = ONE / rest
    for n in range(faded.size):
        below = shoulder - faded[n]
        line[n] = ZERO if below >= ZERO else below * scale
    exponentials(line, room, slope)  # 1 up to the shoulder
    for n in range(faded.size):
        value = faded[n]
        rolled[n] = value if value <= shoulder else ONE - rest * slope[n]
        if value < ZERO:
            rolled[n] = slope[n] = ZERO


@kernel
def tone(rolled: F32, knots: F32, steps: F32, toned: F32) -> None:
    """The tone curve of values (n,), raised to FLOOR. NaN stays NaN."""
    for n in range(rolled.size):
        k = piece_of(rolled[n])
        curved = knots[k] + (rolled[n] * PIECES - np.float32(k)) * steps[k]
        toned[n] = FLOOR if curved < FLOOR else curved


@kernel
def piece_of(value: Number) -> np.int32:
    """Which of the tone curve's 16 pieces a value in [0, 1] lies on; 0 for NaN."""
    scaled = value * PIECES
    if scaled >= np.float32(15.0):
        return np.int32(15)
    return np.int32(scaled) if scaled > ZERO else np.int32(0)


@kernel
def encode(
    x: F32,
    matrix: F32,
    clip_start: Number,
    clip_end: Number,
    desaturation: Number,
    shoulder: Number,
    knots: F32,
    steps: F32,
    exponent: Number,
    encoded: F32,
) -> None:
    """All stages up to gamma."""
    width = x.shape[2]
    rows = np.empty((3, width), np.float32)
    faded = np.empty((3, width), np.float32)
    line, room = np.empty(width, np.float32), np.empty(width, np.float32)
    rolled, slope = np.empty(width, np.float32), np.empty(width, np.float32)
    tops = np.empty(width, np.int32)
    for row in range(x.shape[1]):
        mix(x[0, row], x[1, row], x[2, row], matrix, clip_start, clip_end, rows, line, tops)
        desaturate(rows, desaturation, faded)
        for i in range(3):
            roll_off(faded[i], shoulder, line, room, rolled, slope)
            tone(rolled, knots, steps, rows[i])
            logarithms(rows[i], room, line)
            for n in range(width):
                line[n] *= exponent
            exponentials(line, room, encoded[i, row])


@kernel
def encode_gradient(
    x: F32,
    matrix: F32,
    clip_start: Number,
    clip_end: Number,
    desaturation: Number,
    shoulder: Number,
    knots: F32,
    steps: F32,
    exponent: Number,
    encoded: F32,
    gradient: F32,
    to_matrix: F64,
    to_knots: F64,
    to_steps: F64,
    to_desaturation: F64,
    to_exponent: F64,
) -> None:
    """Adds to the last five what `gradient`, of `encoded`, means for each parameter."""
    width = x.shape[2]
    rows, faded = np.empty((3, width), np.float32), np.empty((3, width), np.float32)
    back = np.empty((3, width), np.float32)
    line, room = np.empty(width, np.float32), np.empty(width, np.float32)
    toned, shares = np.empty(width, np.float32), np.empty(width, np.float32)
    rolled, slope = np.empty(width, np.float32), np.empty(width, np.float32)
    tops = np.empty(width, np.int32)
    for row in range(x.shape[1]):
        mix(x[0, row], x[1, row], x[2, row], matrix, clip_start, clip_end, rows, shares, tops)
        desaturate(rows, desaturation, faded)
        for i in range(3):
            roll_off(faded[i], shoulder, line, room, rolled, slope)
            tone(rolled, knots, steps, toned)
            logarithms(toned, room, line)
            for n in range(width):
                room[n] = gradient[i, row, n] * encoded[i, row, n]
            to_exponent[0] += dot(room, line)
            for n in range(width):
                room[n] *= exponent / toned[n]
            tone_gradient(rolled, slope, knots, steps, room, back[i], to_knots, to_steps)
        mix_gradient(x[:, row], rows, desaturation, shares, tops, back, to_matrix, to_desaturation)


@kernel
def tone_gradient(
    rolled: F32,
    slope: F32,
    knots: F32,
    steps: F32,
    gradient: F32,
    back: F32,
    to_knots: F64,
    to_steps: F64,
) -> None:
    """Of `tone` and `roll_off`: writes back (n,), adds to `to_knots` and `to_steps`."""
    for n in range(rolled.size):
        k = piece_of(rolled[n])
        part = rolled[n] * PIECES - np.float32(k)
        g = gradient[n] if knots[k] + part * steps[k] >= FLOOR else ZERO
        to_knots[k] += g
        to_steps[k] += g * part
        back[n] = g * PIECES * steps[k] * slope[n]


@kernel
def mix_gradient(
    x: F32,
    mixed: F32,
    desaturation: Number,
    shares: F32,
    brightest: I32,
    back: F32,
    to_matrix: F64,
    to_desaturation: F64,
) -> None:
    """Of `desaturate` and `mix`, one row: x and mixed (3, W), back (3, W) is overwritten."""
    third = np.float32(1.0 / 3.0)
    for i in range(3):
        to_desaturation[0] -= dot(back[i], mixed[i])
        for j in range(3):
            to_desaturation[0] += dot(back[i], mixed[j]) / 3.0
    for n in range(shares.size):
        spread = desaturation * third * (back[0, n] + back[1, n] + back[2, n])
        for i in range(3):
            back[i, n] = back[i, n] * (ONE - desaturation) + spread
    for n in range(shares.size):
        if shares[n] > ZERO:
            # A share of every channel's gradient belongs to the brightest one.
            moved = shares[n] * (back[0, n] + back[1, n] + back[2, n])
            for i in range(3):
                back[i, n] *= ONE - shares[n]
            back[brightest[n], n] += moved
    for i in range(3):
        for j in range(3):
            to_matrix[i, j] += dot(back[i], x[j])


@kernel
def sharpen(encoded: F32, strength: Number, blur: F32, out: F32) -> None:
    """encoded + strength (encoded - its blur); blur (3, 3), edges repeated."""
    height, width = encoded.shape[1], encoded.shape[2]
    for channel in range(3):
        for row in range(height):
            above = encoded[channel, max(row - 1, 0)]
            here = encoded[channel, row]
            below = encoded[channel, min(row + 1, height - 1)]
            line = out[channel, row]
            for column in range(width):
                left, right = max(column - 1, 0), min(column + 1, width - 1)
                blurred = (
                    blur[0, 0] * above[left]
                    + blur[0, 1] * above[column]
                    + blur[0, 2] * above[right]
                    + blur[1, 0] * here[left]
                    + blur[1, 1] * here[column]
                    + blur[1, 2] * here[right]
                    + blur[2, 0] * below[left]
                    + blur[2, 1] * below[column]
                    + blur[2, 2] * below[right]
                )
                line[column] = here[column] + strength * (here[column] - blurred)


@kernel
def sharpen_gradient(
    encoded: F32,
    strength: Number,
    blur: F32,
    gradient: F32,
    to_encoded: F32,
    to_strength: F64,
    to_blur: F64,
) -> None:
    """Writes `to_encoded` (3, H, W); adds to `to_strength` (1,) and `to_blur` (3, 3)."""
    height, width = encoded.shape[1], encoded.shape[2]
    spread = np.empty((height + 2, width + 2), np.float32)
    for channel in range(3):
        for p in range(height + 2):
            line = spread[p]
            line[:] = ZERO
            for down in range(3):
                if 0 <= p - down < height:
                    source = gradient[channel, p - down]
                    for right in range(3):
                        weight = strength * blur[down, right]
                        shifted = line[right : right + width]
                        for column in range(width):
                            shifted[column] += weight * source[column]
        # What went to the repeated edges belongs to the pixels that were repeated.
        for column in range(width + 2):
            spread[1, column] += spread[0, column]
            spread[height, column] += spread[height + 1, column]
        for p in range(1, height + 1):
            line = spread[p]
            line[1] += line[0]
            line[width] += line[width + 1]
            source = gradient[channel, p - 1]
            target = to_encoded[channel, p - 1]
            inside = line[1 : width + 1]
            for column in range(width):
                target[column] = (ONE + strength) * source[column] - inside[column]
        correlate(encoded[channel], gradient[channel], strength, blur, to_strength, to_blur)


@kernel
def correlate(
    encoded: F32, gradient: F32, strength: Number, blur: F32, to_strength: F64, to_blur: F64
) -> None:
    """Adds to `to_strength` (1,) and `to_blur` (3, 3) what one channel, (H, W), says of them."""
    height, width = encoded.shape
    a = b = c = d = e = f = g = h = i = 0.0
    for row in range(height):
        above = encoded[max(row - 1, 0)]
        here = encoded[row]
        below = encoded[min(row + 1, height - 1)]
        line = gradient[row]
        for column in range(width):
            left, right = max(column - 1, 0), min(column + 1, width - 1)
            value = line[column]
            # Nine sums that do not wait for each other.
            a += value * above[left]
            b += value * above[column]
            c += value * above[right]
            d += value * here[left]
            e += value * here[column]
            f += value * here[right]
            g += value * below[left]
            h += value * below[column]
            i += value * below[right]
    found = np.array([[a, b, c], [d, e, f], [g, h, i]])
    blurred = 0.0
    for down in range(3):
        for right in range(3):
            to_blur[down, right] -= strength * found[down, right]
            blurred += blur[down, right] * found[down, right]
    to_strength[0] += e - blurred
