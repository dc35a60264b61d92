"""Views: the same numbers in another shape or order."""

import torch

from recording import case, normal, signed


def slice_step(x, dim, start, end, step):
    """Python's `x[start:end:step]`, also for the negative steps that PyTorch lacks."""
    return x.index_select(dim, torch.tensor(range(x.shape[dim])[start:end:step], dtype=torch.int64))


def windows(x, kernel, stride, dilation):
    """The last dims cut into windows: `[.., h, w]` becomes `[.., oh, ow, kh, kw]`."""
    rank = len(kernel)
    for d in range(rank):
        reach = dilation[d] * (kernel[d] - 1) + 1
        x = x.unfold(x.dim() - rank, reach, stride[d])[..., ::dilation[d]]
    return x


def view():
    x = normal(2, 3, 4)
    see = lambda op, fn, inputs, **args: case("view", op, fn, inputs, **args)
    for shape in ([24], [4, 6], [2, -1], [1, 2, 3, 1, 4], [-1, 1], [2, 3, 4]):
        see("reshape", torch.reshape, [x], shape=shape)
    see("reshape", torch.reshape, [normal(1)], shape=[])
    see("reshape", torch.reshape, [normal(0, 3)], shape=[3, 0])
    for order in ([2, 0, 1], [0, 2, 1], [-1, 0, -2], [0, 1, 2]):
        see("permute", lambda x, order: x.permute(order), [x], order=order)
        # A copy, because no strides of that shape reach these places in order.
        see("permute_reshape", lambda x, order, shape: x.permute(order).reshape(shape), [x], order=order, shape=[6, 4])
    for dim0, dim1 in ((0, 1), (-1, 0), (1, 1), (-2, -1)):
        see("transpose", torch.transpose, [x], dim0=dim0, dim1=dim1)
    see("t", torch.t, [normal(3, 4)])
    see("transpose", torch.transpose, [signed(2, 3)], dim0=0, dim1=1)
    for before, shape in (((3, 1), [3, 4]), ((3, 1), [2, 3, 4]), ((), [2, 2]), ((1, 3, 1), [2, 3, 1]), ((1,), [0])):
        see("expand", lambda x, shape: x.expand(shape), [normal(*before)], shape=shape)
    for dim, start, length in ((0, 1, 1), (1, 0, 2), (2, 1, 3), (-1, 2, 2), (1, 3, 0), (0, 0, 2)):
        see("narrow", torch.narrow, [x], dim=dim, start=start, length=length)
    steps = [(0, 0, 2, 1), (2, 0, 4, 2), (2, 1, 4, 3), (-1, -3, -1, 1), (1, 2, 1, 1), (2, -9, 9, 3), (2, 3, 0, -1),
             (1, 2, -9, -2), (0, -1, -9, -1)]
    for dim, start, end, step in steps:
        see("slice_step", slice_step, [x], dim=dim, start=start, end=end, step=step)
    for dim, index in ((0, 1), (1, -1), (2, 0), (-1, -4)):
        see("select", torch.select, [x], dim=dim, index=index)
    for dim in (0, 1, 3, -1, -4):
        see("unsqueeze", torch.unsqueeze, [x], dim=dim)
    for shape, dims in (((1, 3, 1), [0]), ((1, 3, 1), [0, 2]), ((1, 3, 1), [-1]), ((1, 3, 1), [1]), ((1, 1), [0, 1])):
        see("squeeze", lambda x, dims: torch.squeeze(x, dims), [normal(*shape)], dims=dims)
    for start, end in ((0, 2), (1, 2), (0, -2), (1, 1), (-2, -1)):
        see("flatten", torch.flatten, [x], start_dim=start, end_dim=end)
    see("flatten", torch.flatten, [normal()], start_dim=0, end_dim=-1)
    for dim, sizes in ((2, [2, 2]), (-1, [1, 4]), (1, [3, 1]), (2, [-1, 2]), (0, [2])):
        see("unflatten", lambda x, dim, sizes: x.unflatten(dim, sizes), [x], dim=dim, sizes=sizes)
    image = normal(2, 5, 6)
    for kernel, stride, dilation in [
            ([2], [2], [1]), ([3], [1], [2]), ([1], [3], [1]), ([2, 2], [2, 2], [1, 1]), ([3, 2], [1, 2], [1, 1]),
            ([2, 3], [1, 1], [2, 2]), ([5, 6], [1, 1], [1, 1]), ([2, 2, 3], [1, 3, 1], [1, 1, 2])]:
        see("windows", windows, [image], kernel=kernel, stride=stride, dilation=dilation)
