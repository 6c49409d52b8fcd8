"""Where the tool, and what the instruction names, lie beside the line of sight: geometry that a hand need not learn.

    p_c = mean over a level's pixels of w_c(pixel) ray(pixel),    w_c = exp(-s min_t ||pixel - t c||^2),  t in [1/2, 1]

for either colour c that the instruction names, in any shade t of it: a spatial soft-argmax (Levine et al. 2016,
arXiv:1504.00702) whose weights are not learned. The direction of p_c tells where that colour lies to a fraction of a pixel, its
length how much of the level is so coloured. Gazes are rulers here: from an eye 22 cm above the table, a degree of elevation is
4 cm at arm's length, and an eye that turns by whole steps is seldom nearer than that to what it looks at. How a thing is
turned, which no mean tells, is in the second and third moments of the same weights, squared (`shapes`; Hu 1962,
doi:10.1109/TIT.1962.1057692), and by how much the tool is not yet turned so follows from these (`turns`). What stands above
the table seems farther away than it is (`raised`).
"""

from __future__ import annotations

import torch

from perception.text import FIRST_COLOUR, LAST_COLOUR

COLOURS = FIRST_COLOUR, LAST_COLOUR
# How fast a pixel's weight falls with its squared distance from a colour's shades, of channels in [0, 1], and the darkest of
# these shades.
_SHARP = 60.0
_DARK = 0.5
# Weight of the line of sight itself, where nothing has the colour: a few of a level's pixels in ten thousand.
_NOTHING = 3e-4
# A line of sight that falls by less meets no table within reach, rad.
_LEVEL = 0.15
# Of `shapes`: within how far of its middle a colour is one thing, in tangents of angles; the least width, in tangents; and the
# least depth of a ray that meets the picture's plane.
_APART, _THIN, _ASIDE = 0.25, 3e-3, 0.2
# Of `turns`: a thing's length, m. Of `raised`: how high a thing is, in heights of the eye.
_LENGTH = 0.05
_RAISED = 0.25, 0.5
# Numbers of `tool`, of `reach`, and of `bearings`, `beside`, `shapes`, `turns` and `raised` for each level.
TOOL, REACH, BEARING, BESIDE, SHAPE, TURN, RAISED = 5, 12, 2 * 3, 2 * 12, 2 * 7, 2 * 2, 2 * 4


def ahead(gaze: torch.Tensor) -> torch.Tensor:
    """Unit vectors (..., 3) of azimuths and elevations (..., 2), rad, along the arm's axes."""
    azimuth, elevation = gaze.unbind(-1)
    cos = elevation.cos()
    return torch.stack([cos * azimuth.cos(), cos * azimuth.sin(), elevation.sin()], dim=-1)


def closeness(images: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """How close pixels are to any shade of either colour that the instruction names: the weights w_c, 1 to 0.

    Args:
        images: (B, ..., 3) bytes.
        words: (B, W) embeddings of instructions, as of `perception.text`.

    Returns:
        (B, ..., 2); 0 for a colour that is not named.
    """
    pixels = images.flatten(1, -2).float() / 255
    colours = torch.stack([(words[:, c] + 1) / 2 for c in COLOURS], dim=-1)  # (B, 3, 2)
    named = torch.stack([words[:, c.stop] for c in COLOURS], dim=-1)[:, None]
    along, length = pixels @ colours, colours.square().sum(dim=1, keepdim=True)
    shade = (along / length.clamp(min=1e-6)).clamp(_DARK, 1)
    # ||pixel - t c||^2, its parts one by one: none of them is as large as three copies of the picture.
    apart = pixels.square() @ pixels.new_ones(3, 1) - 2 * shade * along + shade.square() * length
    return ((-_SHARP * apart).exp() * named).unflatten(1, images.shape[1:-1])


def points(weights: torch.Tensor, rays: torch.Tensor) -> torch.Tensor:
    """Where either colour lies in each level, camera frame (x right, y down, z ahead).

    Args:
        weights: (B, L, R, R, 2) of the pixels, see `closeness`.
        rays: (L, R, R, 3) of the pixels, camera frame; zero where there is none.

    Returns:
        (B, L, 2, 3): mean of the weighted rays; 0 for a colour that is not named.
    """
    return torch.einsum("blrsc,lrsx->blcx", weights, rays) / rays[0, ..., 0].numel()


def shapes(weights: torch.Tensor, rays: torch.Tensor) -> torch.Tensor:
    """What either colour looks like in each level: moments of its weights about their middle, in the picture's plane.

        s_x, s_y = sqrt E[x^2], sqrt E[y^2],    E = mean with the weights w^2 exp(-(x^2 + y^2) / 2 (1/4)^2)

    and with x and y in units of these the correlation E[x y] and the skewnesses E[x^3], E[x^2 y], E[x y^2], E[y^3]: second
    moments tell how a flat thing is turned, third ones a tray that is seen from the side. x is to the right and y down,
    tangents of angles from the line of sight; gazes do not roll, so that y is the vertical.

    Args:
        weights: (B, L, R, R, 2) of the pixels, see `closeness`.
        rays: (L, R, R, 3) of the pixels, camera frame; zero where there is none.

    Returns:
        (B, L, 2, 7): s_x, s_y in tenths, correlation, four skewnesses; fading to 0 where nothing has the colour.
    """
    depth = rays[..., 2].flatten(1)
    x, y = ((rays[..., i].flatten(1) / depth.clamp(min=_ASIDE)) for i in (0, 1))  # (L, P)
    mass = (weights.movedim(-1, 1).flatten(3).square() * (depth > _ASIDE)).contiguous()  # (B, 2, L, P)

    def mean(of: torch.Tensor) -> torch.Tensor:
        return (near * of).sum(dim=-1, keepdim=True) / near.sum(dim=-1, keepdim=True).clamp(min=1e-9)

    near = mass
    for _ in range(2):
        apart = (x - mean(x)).square() + (y - mean(y)).square()
        near = mass * (apart / (-2 * _APART**2)).exp()
    right, down = x - mean(x), y - mean(y)
    wide, high = mean(right.square()).sqrt() + _THIN, mean(down.square()).sqrt() + _THIN
    right, down = right / wide, down / high
    both, flat = right * down, right.square()
    moments = mean(both), mean(flat * right), mean(flat * down), mean(both * down), mean(down.square() * down)
    there = near.mean(dim=-1, keepdim=True)
    return (torch.cat([10 * wide, 10 * high, *moments], dim=-1) * (there / (there + _NOTHING))).transpose(1, 2)


def turned(gaze: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Azimuths and elevations (..., 2) of vectors (..., 3) in the frame of a camera that looks along a gaze (..., 2), rad."""
    right, down, forward = points.unbind(-1)
    azimuth, elevation = gaze.unbind(-1)
    level = forward * elevation.cos() + down * elevation.sin()
    up = forward * elevation.sin() - down * elevation.cos()
    side = torch.atan2(-right, level)
    return torch.stack([azimuth + side, torch.atan2(up, torch.hypot(right, level))], dim=-1)


def doubled(axes: torch.Tensor) -> torch.Tensor:
    """Cosine and sine of twice the azimuth of horizontal axes, times their length squared: either end is the same. (..., 2)."""
    x, y = axes.unbind(-1)
    return torch.stack([x.square() - y.square(), 2 * x * y], dim=-1)


def directions(gaze: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Azimuths and elevations (B, L, 2, 2), rad, of `points` (B, L, 2, 3) from a gaze (B, 2); its own where there is none."""
    return turned(gaze[:, None, None], _found(points))


def turns(
    gaze: torch.Tensor, shapes: torch.Tensor, directions: torch.Tensor, tool: torch.Tensor, height: float
) -> torch.Tensor:
    """How the tool is turned, beside the line of sight and beside what is seen, from above.

    With u ahead, v to the left and h the thing's height, a thing on a table has in the picture

        E[x^2] = E[v^2],    E[x y] = sin(e) E[u v],    E[y^2] = sin^2(e) E[u^2] + cos^2(e) E[h^2],    in lengths,

    e the angle at which the line of sight falls. Heights spoil the last one alone; and E[u^2] + E[v^2] is the same however a
    thing is turned, so that the first two tell twice the angle of its longer side from the line of sight, but for a constant
    k of its size:

        d = 2 (k - E[v^2] + i E[u v]),    d conj(t),    t = exp 2 i (azimuth of the tool - of the gaze)

    k conj(t) is for the reader to add, who is told conj(t).

    Args:
        gaze: (B, 2) rad.
        shapes: (B, L, 2, 7), see `shapes`.
        directions: (B, L, 2, 2), see `directions`; how far down tells how far away.
        tool: (B, 2) `doubled` x axis of the tool.
        height: of the eye above the table, m.

    Returns:
        (B, 2 + 4 L): conj(t), then d conj(t) with k = 0 of each level and colour, in units of (5 cm)^2, real parts first; 0
        for a colour that is not there.
    """
    azimuth = gaze[..., 0]
    own = _times(tool, doubled(torch.stack([azimuth.cos(), -azimuth.sin()], dim=-1))) * tool.new_tensor([1.0, -1.0])
    fall = (-directions[..., 1]).clamp(min=_LEVEL).sin()
    wide, high, both = shapes[..., 0] / 10, shapes[..., 1] / 10, shapes[..., 2]
    thing = torch.stack([-(wide - _THIN).clamp(min=0).square(), both * wide * high / fall], dim=-1)
    thing = thing * (2 * (height / fall / _LENGTH).square())[..., None]
    return torch.cat([own, _times(thing, own[:, None, None]).flatten(1)], dim=-1)


def reach(gaze: torch.Tensor, tool: torch.Tensor, height: float) -> torch.Tensor:
    """Where the tool is beside the line of sight: what is missing between the hand and what the eye looks at.

    The tool's azimuth, elevation and level distance from the eye, then the same less those of the point in which the line of
    sight meets the table, x, and tanh(5 x) and tanh(20 x): centimetres count near that point, decimetres far from it.

    Args:
        gaze: (..., 2) azimuth and elevation, rad.
        tool: (..., 3) from the eye, m, along the arm's axes.
        height: of the eye above the table, m.

    Returns:
        (..., 12).
    """
    azimuth, elevation = gaze.unbind(-1)
    x, y, z = tool.unbind(-1)
    away = torch.hypot(x, y)
    table = height / torch.tan((-elevation).clamp(min=_LEVEL))
    there = torch.stack([torch.atan2(y, x), torch.atan2(z, away), away], dim=-1)
    return torch.cat([there, _graded(there - torch.stack([azimuth, elevation, table], dim=-1))], dim=-1)


def _graded(missing: torch.Tensor) -> torch.Tensor:
    """What is missing, rad or m, fine where there is little of it: x, tanh(5 x) and tanh(20 x). (..., D) -> (..., 3 D)."""
    return torch.cat([missing, (5 * missing).tanh(), (20 * missing).tanh()], dim=-1)


def beside(gaze: torch.Tensor, points: torch.Tensor, tool: torch.Tensor, height: float) -> torch.Tensor:
    """Where the tool is beside each of the `points`: what is missing of azimuth, elevation and level distance, as in `reach`.

    Args:
        gaze: (B, 2) rad.
        points: (B, L, 2, 3), see `points`.
        tool: (B, 3) from the eye, m, along the arm's axes.
        height: of the eye above the table, m.

    Returns:
        (B, 24 L): for each level and colour the three differences, tanh(5 x) and tanh(20 x), then the point's direction beside
        the line of sight in the picture (2) and the root of its length; of a colour that is not there, those of the line of
        sight.
    """
    missing = reach(directions(gaze, points), tool[:, None, None].expand_as(points), height)[..., 3:]
    return torch.cat([missing, bearings(points).unflatten(1, (*points.shape[1:3], -1))], dim=-1).flatten(1)


def raised(directions: torch.Tensor, tool: torch.Tensor, height: float) -> torch.Tensor:
    """How far away the tool is beside what is seen if that is not on the table: a quarter or half as high as the eye.

    A tray 6 cm above the table looks as if it were a decimetre and more behind its place, where the functions of `reach` are
    flat.

    Args:
        directions: (B, L, 2, 2), see `directions`.
        tool: (B, 3) from the eye, m, along the arm's axes.
        height: of the eye above the table, m.

    Returns:
        (B, 8 L): for each level and colour what is missing of the level distance, tanh(5 x) and tanh(20 x), at either height.
    """
    fall = (-directions[..., 1]).clamp(min=_LEVEL)
    away = torch.hypot(tool[:, 0], tool[:, 1])[:, None, None]
    missing = torch.stack([away - (1 - share) * height / fall.tan() for share in _RAISED], dim=-1)
    return torch.cat([(5 * missing).tanh(), (20 * missing).tanh()], dim=-1).flatten(1)


def bearings(points: torch.Tensor) -> torch.Tensor:
    """Directions of `points` (B, L, 2, 3) beside the line of sight in the picture, and the root of their lengths. (B, 6 L)."""
    found = _found(points)
    beside = found[..., :2] / found.norm(dim=-1, keepdim=True)
    return torch.cat([beside, points.norm(dim=-1, keepdim=True).sqrt()], dim=-1).flatten(1)


def _times(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Product of complex numbers, real and imaginary parts along the last axis."""
    (ar, ai), (br, bi) = a.unbind(-1), b.unbind(-1)
    return torch.stack([ar * br - ai * bi, ar * bi + ai * br], dim=-1)


def _found(points: torch.Tensor) -> torch.Tensor:
    """Points, or the line of sight where there is none."""
    return points + torch.tensor([0.0, 0.0, _NOTHING], device=points.device)
