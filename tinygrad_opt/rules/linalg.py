"""Rules of linear algebra. Matrices are the last two axes, as for NumPy; the axes before count the matrices."""

import string

import numpy as np

from tinygrad_opt.rules.reductions import spread
from tinygrad_opt.rules.registry import defvjp, primitive
from tinygrad_opt.rules.shaping import Bundle


def _t(x):
    """Each matrix transposed."""
    return np.swapaxes(x, -1, -2)


def _column(x):
    """Each vector (the last axis) as a matrix of one column."""
    return np.expand_dims(x, -1)


# Products of matrices and vectors ------------------------------------------------------------------------------------


def _as_matrices(g, x, y):
    """The three of ``out = x @ y`` with vectors written as matrices: ``x`` as a row, ``y`` as a column."""
    if y.ndim == 1:
        g, y = _column(g), _column(y)
    if x.ndim == 1:
        g, x = np.expand_dims(g, -2), np.expand_dims(x, -2)
    return g, x, y


def _matmul_left(g, _out, x, y):
    if x.ndim == y.ndim == 2:
        return g @ y.T
    gm, _, ym = _as_matrices(g, x, y)
    gx = gm @ _t(ym)
    return gx[..., 0, :] if x.ndim == 1 else gx


def _matmul_right(g, _out, x, y):
    if x.ndim == y.ndim == 2:
        return x.T @ g
    gm, xm, _ = _as_matrices(g, x, y)
    gy = _t(xm) @ gm
    return gy[..., 0] if y.ndim == 1 else gy


for matmul in (np.matmul, np.linalg.matmul):
    defvjp(matmul, _matmul_left, _matmul_right)


def _dot_left(g, _out, x, y):
    if np.ndim(x) == 0 or np.ndim(y) == 0:
        return g * y
    if y.ndim == 1:
        return _column(g) * y
    return g @ y.T if y.ndim == 2 else np.tensordot(g, _t(y), y.ndim - 1)


def _dot_right(g, out, x, y):
    if np.ndim(x) == 0 or np.ndim(y) == 0:
        return g * x
    return x.T @ g if x.ndim == 2 >= y.ndim else _tensordot_right(g, out, x, y, (-1, -min(y.ndim, 2)))


defvjp(np.dot, _dot_left, _dot_right)


for outer in (np.outer, np.linalg.outer):
    defvjp(
        outer,
        lambda g, _out, _x, y: np.reshape(g @ np.ravel(y), _x.shape),
        lambda g, _out, x, _y: np.reshape(np.ravel(x) @ g, _y.shape),
    )


def _multi_dot_rule(g, _out, arrays):
    """Of A B C, the gradient of B is Aᵀ g Cᵀ: again a product of many."""
    *first, last = arrays
    matrices = [np.atleast_2d(first[0]), *first[1:], _column(last) if last.ndim == 1 else last]
    g = np.reshape(g, (matrices[0].shape[0], matrices[-1].shape[1]))
    back = [m.T for m in reversed(matrices)]
    products = [np.linalg.multi_dot([*back[len(back) - i :], g, *back[: -i - 1]]) for i in range(len(back))]
    return Bundle(np.reshape(product, a.shape) for product, a in zip(products, arrays, strict=True))


defvjp(np.linalg.multi_dot, _multi_dot_rule)


def _matrix_power_rule(g, _out, x, n):
    """From xⁿ = x · x · ... the product rule makes n terms; from x⁻ⁿ as many, with a minus."""
    power = np.linalg.matrix_power
    terms = (power(_t(x), k) @ g @ power(_t(x), n - 1 - k) for k in range(min(n, 0), max(n, 0)))
    return sum(terms, 0 * g) * (1 if n > 0 else -1)


defvjp(np.linalg.matrix_power, _matrix_power_rule)

# Products over chosen axes -------------------------------------------------------------------------------------------


def _summed_and_free(axes, x_ndim, y_ndim):
    """The axes of ``x`` and ``y`` that `np.tensordot` sums over, then those that it leaves."""
    of_x, of_y = (range(x_ndim - axes, x_ndim), range(axes)) if np.ndim(axes) == 0 else axes
    of_x, of_y = [a % x_ndim for a in np.atleast_1d(of_x)], [a % y_ndim for a in np.atleast_1d(of_y)]
    return of_x, of_y, [a for a in range(x_ndim) if a not in of_x], [a for a in range(y_ndim) if a not in of_y]


def _tensordot_left(g, _out, x, y, axes=2):
    of_x, of_y, free_x, free_y = _summed_and_free(axes, x.ndim, y.ndim)
    gx = np.tensordot(g, y, (range(len(free_x), g.ndim), free_y))  # its last axes are those of y, in y's order
    return np.transpose(gx, np.argsort(free_x + [of_x[i] for i in np.argsort(of_y)]))


def _tensordot_right(g, _out, x, y, axes=2):
    of_x, of_y, free_x, free_y = _summed_and_free(axes, x.ndim, y.ndim)
    gy = np.tensordot(x, g, (free_x, range(len(free_x))))  # its first axes are those of x, in x's order
    return np.transpose(gy, np.argsort([of_y[i] for i in np.argsort(of_x)] + free_y))


for tensordot in (np.tensordot, np.linalg.tensordot):
    defvjp(tensordot, _tensordot_left, _tensordot_right)


@primitive(inline=True)
def einsum(subscripts, *operands, optimize=False):
    """`np.einsum` with the output given and no ellipsis."""
    return np.einsum(subscripts, *operands, optimize=optimize)


def _einsum_rule(position, g, _out, subscripts, *operands, optimize=False):
    """For the operand, the output puts ``g``: "ij,jk->ik" becomes "ik,jk->ij"."""
    inputs, output = subscripts.split("->")
    terms, arrays = inputs.split(","), list(operands)
    own, shape = terms.pop(position - 1), arrays.pop(position - 1).shape
    terms, arrays = [output, *terms], [g, *arrays]
    pairs = [pair for term, array in zip(terms, arrays, strict=True) for pair in zip(term, array.shape, strict=True)]
    lengths = {letter: n for letter, n in pairs if n != 1}
    target = ""
    for letter, n in zip(own, shape, strict=True):
        if letter in target:  # a diagonal was taken: put the values on one
            fresh = next(c for c in string.ascii_letters if c not in subscripts + target)
            terms, arrays, letter = [*terms, letter + fresh], [*arrays, np.eye(n, dtype=g.dtype)], fresh
        elif lengths.get(letter) != n:  # summed in this operand alone, or broadcast: repeat
            terms, arrays = [*terms, letter], [*arrays, np.ones(n, g.dtype)]
        target += letter
    way = optimize if isinstance(optimize, (bool, str)) else True  # a path given is one for the forward call
    return einsum(f"{','.join(terms)}->{target}", *arrays, optimize=way)


defvjp(einsum, each=_einsum_rule)


@primitive(inline=True)
def cross(x, y):
    """The vector products of the vectors along the last axis."""
    return np.linalg.cross(x, y)


defvjp(cross, lambda g, _out, _x, y: cross(y, g), lambda g, _out, x, _y: cross(g, x))


def _full(g, length):
    """The gradient for mode="full", of ``length``: zeros for what another mode cut off, half of it at each end."""
    cut = length - g.size
    return np.concatenate([np.zeros(cut // 2, g.dtype), g, np.zeros(cut - cut // 2, g.dtype)])


defvjp(
    np.convolve,
    lambda g, _out, _x, y, mode="full": np.convolve(_full(g, _x.size + y.size - 1), np.flip(np.ravel(y)), "valid"),
    lambda g, _out, x, _y, mode="full": np.convolve(_full(g, x.size + _y.size - 1), np.flip(np.ravel(x)), "valid"),
)


# Norms ---------------------------------------------------------------------------------------------------------------


@primitive(inline=True)
def norm(x, ord, axis, keepdims):
    """`np.linalg.norm` for the orders that are a root of a sum of powers."""
    return np.linalg.norm(x, ord, axis, keepdims)


def _norm_rule(g, out, x, ord, axis, keepdims):
    if ord == 0:
        return 0 * spread(g, x.shape, axis, keepdims)  # the count of nonzero elements is piecewise constant
    length = spread(out, x.shape, axis, keepdims)
    direction = x / np.where((x == 0) & (length == 0), np.inf, length)  # at the zero vector the subgradient is 0
    if ord not in (None, 2, "fro"):
        direction = np.sign(x) * np.abs(direction) ** (ord - 1)
    return spread(g, x.shape, axis, keepdims) * direction


defvjp(norm, _norm_rule)


# Inverses and equations ----------------------------------------------------------------------------------------------

defvjp(np.linalg.inv, lambda g, out, _x: -_t(out) @ g @ _t(out))


def _pinv_rule(g, out, x, rcond=None, *, rtol=None):
    """The rank is taken to stay what it is: where it changes, the pseudo-inverse jumps."""
    gt, outt = _t(g), _t(out)
    beside = gt - x @ (out @ gt)
    return beside @ out @ outt + outt @ out @ (gt - gt @ out @ x) - outt @ g @ outt


defvjp(np.linalg.pinv, _pinv_rule)


def _solve_right(g, _out, a, _b):
    return np.linalg.solve(_t(a), _column(g))[..., 0] if _b.ndim == 1 else np.linalg.solve(_t(a), g)


def _solve_left(g, out, a, _b):
    if _b.ndim == 1:
        g, out = _column(g), _column(out)
    return -np.linalg.solve(_t(a), g) @ _t(out)


defvjp(np.linalg.solve, _solve_left, _solve_right)


def _lstsq_rules(g, out, a, b):
    """The gradients of both inputs of `np.linalg.lstsq` (results: solution, residuals, rank, singular values)."""
    (gx, gresiduals, _, gs), (x, _, rank, _) = g, out
    if rank < min(a.shape):
        raise np.linalg.LinAlgError(
            f"np.linalg.lstsq has a gradient at full rank only; this matrix of shape {a.shape} has rank {int(rank)}"
        )
    if b.ndim == 1:
        gx, x, b = _column(gx), _column(x), _column(b)
    inverse = np.linalg.pinv(a)
    ga, gb = _pinv_rule(gx @ b.T, inverse, a) + _singular_values_rule(gs, None, a), inverse.T @ gx
    if gresiduals.size:
        error = 2 * gresiduals * (b - a @ x)
        ga, gb = ga - error @ x.T, gb + error
    return ga, gb


defvjp(
    np.linalg.lstsq,
    lambda g, out, a, b, rcond=None: _lstsq_rules(g, out, a, b)[0],
    lambda g, out, a, b, rcond=None: np.reshape(_lstsq_rules(g, out, a, b)[1], b.shape),
)

# Determinants --------------------------------------------------------------------------------------------------------


def _cofactors(x, det):
    """The derivative of the determinant: det · inverseᵀ, or, where that is 0 · ∞, the determinants of all minors."""
    n = x.shape[-1]
    if np.all(det != 0):
        inverse = np.linalg.inv(x)
        with np.errstate(all="ignore"):
            condition = np.linalg.norm(x, axis=(-2, -1)) * np.linalg.norm(inverse, axis=(-2, -1))
        if not np.any(condition * np.finfo(x.dtype).eps > 1):
            return np.expand_dims(det, (-2, -1)) * _t(inverse)
    others = np.nonzero(~np.eye(n, dtype=bool))[1].reshape(n, n - 1)  # row i: all indices but i
    minors = x[..., others[:, None, :, None], others[:, None, :]]
    return np.linalg.det(minors) * (1 - 2 * (np.indices((n, n)).sum(0) % 2))


defvjp(np.linalg.det, lambda g, out, x: np.expand_dims(g, (-2, -1)) * _cofactors(x, out))
defvjp(
    np.linalg.slogdet,  # the sign is piecewise constant
    lambda g, _out, x: np.expand_dims(g[1], (-2, -1)) * _t(np.linalg.inv(x)),
)

# Decompositions ------------------------------------------------------------------------------------------------------


def _lower(x):
    """The lower triangle of each matrix, with half of the diagonal."""
    n = x.shape[-1]
    return x * (np.tri(n, k=-1, dtype=x.dtype) + np.eye(n, dtype=x.dtype) / 2)


def _in_one_triangle(g, upper):
    """The gradient of a symmetric matrix of which NumPy reads one triangle only.

    It is what a change of single elements does: nothing in the other triangle, and double off the diagonal in the one
    read, since such an element stands for two.
    """
    g = _lower(g + _t(g))
    return _t(g) if upper else g


def _cholesky_rule(g, out, _x, *, upper=False):
    g, lower = (_t(g), _t(out)) if upper else (g, out)
    inverse = np.linalg.inv(lower)
    return _in_one_triangle(_t(inverse) @ _lower(_t(lower) @ g) @ inverse, upper)


defvjp(np.linalg.cholesky, _cholesky_rule)


@primitive(inline=True)
def quotient(x, y):
    """``x / y``, but 0/0 = 0: a gradient that does not depend on some vectors takes no harm from their equal values."""
    return x / np.where((x == 0) & (y == 0), np.inf, y)


defvjp(quotient, lambda g, _out, _x, y: quotient(g, y), lambda g, out, _x, y: quotient(-g * out, y))


def _over_gaps(x, values):
    """The elements off the diagonal, each over the difference of the value of its column and of its row."""
    diagonal = np.eye(x.shape[-1], dtype=x.dtype)
    return quotient(x * (1 - diagonal), np.expand_dims(values, -2) - _column(values) + diagonal)


def _eigh_rule(g, out, _x, UPLO="L"):  # noqa: N803 - NumPy's name
    (gvalues, gvectors), (values, vectors) = g, out
    inner = _over_gaps(_t(vectors) @ gvectors, values) @ _t(vectors)
    return _in_one_triangle(vectors @ (inner + _column(gvalues) * _t(vectors)), UPLO in "Uu")


def _eigvalsh_rule(g, _out, x, UPLO="L"):  # noqa: N803 - NumPy's name
    vectors = np.linalg.eigh(x, UPLO)[1]
    return _in_one_triangle(vectors @ (_column(g) * _t(vectors)), UPLO in "Uu")


defvjp(np.linalg.eigh, _eigh_rule)
defvjp(np.linalg.eigvalsh, _eigvalsh_rule)


@primitive(pure=False)
def refuse_free_columns(g, call):
    """0, or an error where ``g`` is not: columns that only complete an orthonormal basis have no gradient."""
    if np.any(g):
        raise ValueError(
            f"{call}: the columns that make the matrix square can be chosen in many ways, so a result that depends "
            "on them has no gradient: ask for the reduced matrices"
        )
    return g.dtype.type(0)


defvjp(refuse_free_columns, lambda g, _out, _g, _call: g * np.full(_g.shape, np.nan))  # no tangent either


def _singular_values_rule(g, _out, x):
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return u @ (_column(g * np.sign(s)) * vh)  # a singular value has a kink at 0, as an absolute value: 0 there


def _svd_rule(g, out, x, full_matrices=True, compute_uv=True):
    if not compute_uv:
        return _singular_values_rule(g, out, x)
    (gu, gs, gvh), (u, s, vh), k = g, out, min(x.shape[-2:])
    free = [refuse_free_columns(part, "np.linalg.svd(full_matrices=True)") for part in (gu[..., k:], gvh[..., k:, :])]
    gu, gv, u, vh = gu[..., :k], _t(gvh[..., :k, :]), u[..., :k], vh[..., :k, :]
    ut, v, row = _t(u), _t(vh), np.expand_dims(s, -2)
    left, right = _over_gaps(ut @ gu, s * s), _over_gaps(vh @ gv, s * s)
    gx = u @ ((left + _t(left)) * row + _column(s) * (right + _t(right))) @ vh + u @ (_column(gs * np.sign(s)) * vh)
    if x.shape[-2] > k:
        gx = gx + quotient(gu - u @ (ut @ gu), row) @ vh
    if x.shape[-1] > k:
        gx = gx + u @ _t(quotient(gv - v @ (vh @ gv), row))
    return gx + sum(free)


defvjp(np.linalg.svd, _svd_rule)
defvjp(np.linalg.svdvals, _singular_values_rule)


def _qr_rule(g, out, x, mode="reduced"):
    if mode == "r":
        q, r = np.linalg.qr(x)
        gq, gr = np.zeros_like(q), g
    elif mode in ("reduced", "complete"):
        (gq, gr), (q, r) = g, out
    else:
        raise ValueError(f'np.linalg.qr has a gradient for mode="reduced", "complete" and "r"; got {mode!r}')
    k = min(x.shape[-2:])
    free = refuse_free_columns(gq[..., k:], 'np.linalg.qr(mode="complete")')
    gq, q, gr, r = gq[..., :k], q[..., :k], gr[..., :k, :], r[..., :k, :]
    beside = gr[..., k:]  # of a wide matrix, what is right of its square part: r there is qᵀ x
    gq, gr, r = gq + x[..., k:] @ _t(beside), gr[..., :k], r[..., :k]
    inner = _lower(r @ _t(gr) - _t(gq) @ q)
    square = _t(np.linalg.solve(r, _t(gq + q @ (inner + _t(inner)))))
    return np.concatenate([square, q @ beside], axis=-1) + free


defvjp(np.linalg.qr, _qr_rule)
