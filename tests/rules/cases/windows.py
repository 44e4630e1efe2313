"""Cases of the rules in `rules/windows.py`."""

import numpy as np

from tests.rules.cases.table import case, draw
from tinygrad_opt.rules import windows
from tinygrad_opt.rules.windows import Geometry

# images, weight, geometry without the kernel: stride, padding, dilation
CONVOLUTIONS = {
    "plain": ((2, 1, 3, 4), (2, 1, 2, 2), ()),
    "channels": ((1, 2, 3, 3), (2, 2, 2, 2), ()),
    "padding": ((2, 1, 3, 3), (1, 1, 3, 3), ((1, 1), (1, 1))),
    "padding beyond the kernel's reach": ((1, 1, 2, 2), (1, 1, 2, 2), ((1, 1), (2, 2))),
    "stride": ((1, 2, 5, 4), (1, 2, 2, 2), ((2, 2),)),
    "stride that leaves pixels out": ((1, 1, 4, 6), (2, 1, 2, 1), ((3, 2),)),
    "stride and padding": ((1, 1, 4, 3), (1, 1, 3, 2), ((2, 1), (1, 1))),
    "dilation": ((1, 1, 5, 4), (1, 1, 2, 2), ((1, 1), (0, 0), (3, 2))),
    "dilation, padding and stride": ((1, 1, 5, 5), (1, 1, 2, 3), ((2, 1), (1, 2), (2, 2))),
    "groups": ((1, 4, 2, 3), (4, 2, 2, 2), ()),
    "depthwise, with stride": ((1, 2, 4, 4), (2, 1, 2, 2), ((2, 2), (1, 0))),
    "one pixel": ((2, 3, 1, 1), (2, 3, 1, 1), ()),
    "no examples": ((0, 1, 3, 3), (1, 1, 2, 2), ()),
}
for label, (images, weight, options) in CONVOLUTIONS.items():
    geometry = Geometry(weight[2:], *options)
    result = (images[0], weight[0], *geometry.sizes(images[2:]))
    case(windows.conv2d, label, lambda x, w, b, o=geometry: windows.conv2d(x, w, b, o), images, weight, weight[:1])
    case(
        windows.conv2d_input,
        label,
        lambda g, w, shape=images, o=geometry: windows.conv2d_input(g, w, shape, o),
        result,
        weight,
    )
    case(
        windows.conv2d_weight,
        label,
        lambda g, x, shape=weight, o=geometry: windows.conv2d_weight(g, x, shape, o),
        result,
        images,
    )
case(windows.conv2d, "no bias", lambda x, w: windows.conv2d(x, w, None, Geometry((2, 2))), (1, 1, 3, 3), (1, 1, 2, 2))
FIXED = draw("fixed images", (1, 1, 3, 3))
case(windows.conv2d, "images as an array", lambda w: windows.conv2d(FIXED, w, None, Geometry((2, 2))), (1, 1, 2, 2))

POOLS = {
    "side by side": ((2, 4, 4), Geometry((2, 2), (2, 2))),
    "a rest": ((1, 2, 5, 3), Geometry((2, 2), (2, 2))),
    "overlapping": ((1, 5, 4), Geometry((3, 2), (1, 1))),
    "padding": ((2, 3, 4), Geometry((2, 3), (2, 1), (1, 1))),
    "one axis": ((2, 1, 6), Geometry((1, 2), (1, 2))),
    "no images": ((0, 1, 4, 4), Geometry((2, 2), (2, 2))),
}


def apart(label, shape):
    """Numbers of which no two are closer than 0.1: the largest of a window is not in doubt."""
    order = np.argsort(draw(label, (int(np.prod(shape)),)))
    return (order * 0.1 - 0.05 * order.size).reshape(shape)


for label, (images, geometry) in POOLS.items():
    case(windows.max_pool2d, label, lambda x, o=geometry: windows.max_pool2d(x, o), apart(label, images))
    case(windows.avg_pool2d, label, lambda x, o=geometry: windows.avg_pool2d(x, o), images)
    result = (*images[:-2], *geometry.sizes(images[-2:]))
    case(
        windows.avg_unpool2d,
        label,
        lambda g, shape=images, o=geometry: windows.avg_unpool2d(g, shape, o),
        result,
    )
DILATED = Geometry((2, 2), (1, 1), (0, 0), (2, 3))
case(windows.max_pool2d, "dilation", lambda x: windows.max_pool2d(x, DILATED), apart("dilation", (1, 4, 5)))
