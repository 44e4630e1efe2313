"""Tensor: an array that knows how it was computed. It stands on ``graph.py`` and makes the graph's nodes.

A Tensor is two things, the array ``data`` and the Node that made it (None where no gradient is wanted). Whatever is
done to it (an operator, a method, a NumPy function) arrives in `apply`, which runs the function on the arrays and
leaves one Node behind.
"""

from __future__ import annotations

import dis
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from tinygrad_opt import graph
from tinygrad_opt.errors import GraphError, MissingRuleError, ShapeError
from tinygrad_opt.graph import Node, is_grad_enabled, mode, record
from tinygrad_opt.rules import elementwise, shaping
from tinygrad_opt.rules.registry import COMPOSITES, NON_DIFFERENTIABLE, TABLE, UFUNC_METHODS, Op, name_of
from tinygrad_opt.rules.shaping import Bundle, pack, unpack

Axis = int | tuple[int, ...] | None

NO_OPTIONS: dict[str, Any] = {}
_default_dtype: np.dtype[Any] = np.dtype(np.float64)


def set_default_dtype(dtype: npt.DTypeLike) -> None:
    """Choose the dtype that floating-point data get: float64 (at the start) or float32 (faster, less exact).

    Raises ValueError for a dtype that is not a floating-point one.

    >>> import tinygrad_opt as tg
    >>> tg.set_default_dtype("float32")
    >>> tg.Tensor([1.0, 2.0]).dtype
    dtype('float32')
    >>> tg.set_default_dtype("float64")
    """
    global _default_dtype
    if not np.issubdtype(dtype, np.floating):
        raise ValueError(f"the default dtype must be a floating-point one, such as 'float32'; got {dtype!r}")
    _default_dtype = np.dtype(dtype)


def get_default_dtype() -> np.dtype[Any]:
    """The dtype that floating-point data get.

    >>> import tinygrad_opt as tg
    >>> tg.get_default_dtype()
    dtype('float64')
    """
    return _default_dtype


class Tensor:
    """An n-dimensional array that records what is computed from it, so that gradients can flow back.

    ``data`` is anything NumPy makes an array of; it is copied. Floating-point data get the default dtype unless
    ``dtype`` says otherwise; integers and booleans stay what they are. With ``requires_grad=True`` every call on the
    Tensor is recorded, and ``backward()`` on a result fills ``grad``. ``name`` is shown in pictures and messages.

    Operators, methods and NumPy functions mean what they mean for arrays.

    Raises TypeError when an integer or boolean Tensor should require a gradient.

    >>> import numpy as np, tinygrad_opt as tg
    >>> x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> y = (np.sin(x) * x).sum()
    >>> y.backward()
    >>> bool(np.allclose(x.grad, np.sin(x.data) + x.data * np.cos(x.data)))
    True
    """

    __slots__ = ("__weakref__", "_data", "_name", "_node")

    _data: Any
    _node: Node | None
    _name: str | None

    def __init__(
        self,
        data: Any,
        requires_grad: bool = False,
        *,
        dtype: npt.DTypeLike | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(data, (list, tuple)) and _holds_graph(data):
            raise GraphError("a Tensor made of Tensors would lose their history: join them with np.stack([...])")
        array = _new_array(_unwrap(data), dtype)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"a Tensor holds real numbers or booleans; got data of dtype {array.dtype}: {data!r:.80}")
        if dtype is None and array.dtype.kind == "f":
            array = array.astype(_default_dtype, copy=False)
        self._data = array
        self._node = None
        self._name = None
        if requires_grad:
            self._make_leaf()
        if name is not None:
            self.name = name

    # What it is ------------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """The array itself, without its history. A change made in it by hand is not recorded."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        array = as_array(value._data if isinstance(value, Tensor) else value)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"a Tensor holds real numbers or booleans; got data of dtype {array.dtype}: {value!r:.80}")
        if not self.is_leaf:
            raise GraphError(
                "data of a computed Tensor cannot be replaced while it is part of a graph: detach() it first"
            )
        if self._node is not None and array.dtype.kind != "f":
            array = array.astype(self._data.dtype)  # its gradients are no integers
        old = self._data
        if isinstance(array, np.ndarray) and isinstance(old, np.ndarray) and np.may_share_memory(array, old):
            graph.note_changes([graph.watch(array)])  # t.data -= ... : Python changes the array, then assigns it
        self._data = array
        graph.note_rebinding()
        if self._node is not None:
            self._node.out = array

    @property
    def requires_grad(self) -> bool:
        """Whether calls on this Tensor are recorded; may be set on a leaf."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not self.is_leaf:
            raise GraphError("requires_grad can be set on leaves only, not on the result of a computation: detach() it")
        graph.note_rebinding()
        if value:
            self._make_leaf()
        else:
            self._node = None

    def _make_leaf(self) -> None:
        if self._node is None:
            if self._data.dtype.kind != "f":
                raise TypeError(
                    f"only floating-point Tensors can require gradients; this one has dtype {self._data.dtype}. "
                    "Make it one with dtype=float, or from data such as [1.0, 2.0]."
                )
            self._node = record(None, None, NO_OPTIONS, self._data, ())
            self._node.name = self._name  # for pictures: the graph holds nodes, not Tensors

    def requires_grad_(self, value: bool = True) -> Tensor:
        """Set ``requires_grad`` and return the Tensor."""
        self.requires_grad = value
        return self

    @property
    def grad(self) -> Any:
        """The gradient that ``backward()`` accumulated here: a Tensor, or None before the first one."""
        if self._node is None:
            return None
        if self._node.grad.__class__ is _ndarray:
            self._node.grad = _wrap(self._node.grad, None)
        return self._node.grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if self._node is None:
            if value is not None:
                raise GraphError("this Tensor does not require a gradient, so it has none to set")
            return
        if value is not None:
            value = value if isinstance(value, Tensor) else _wrap(np.array(value, self._data.dtype), None)
            if value.shape != self.shape or value.dtype != self.dtype:
                raise ShapeError(
                    f"a gradient has the shape and dtype of its Tensor: {self.shape} and {self.dtype}, "
                    f"not {value.shape} and {value.dtype}"
                )
        self._node.grad = value

    @property
    def name(self) -> str | None:
        """What the Tensor is called in pictures and messages."""
        return self._name

    @name.setter
    def name(self, value: str | None) -> None:
        self._name = value
        if self._node is not None:
            self._node.name = value
        elif isinstance(self._data, np.ndarray):
            graph.name_array(self._data, value)

    @property
    def node(self) -> Node | None:
        """The graph's record of how this Tensor was made; None where nothing is recorded."""
        return self._node

    @property
    def is_leaf(self) -> bool:
        """Whether the Tensor was made by the user, not computed from Tensors that require gradients."""
        return self._node is None or self._node.op is None

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self._data.dtype  # type: ignore[no-any-return]

    @property
    def T(self) -> Tensor:
        """The Tensor with its axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:
        """Each matrix (the last two axes) transposed."""
        return self.swapaxes(-1, -2)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("cannot iterate over a 0-d Tensor")
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return _unwrap(value) in self._data

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        if self._node is not None and is_grad_enabled():
            if graph.differentiating.depth:
                raise GraphError(
                    "float(), and the functions of math, of a Tensor inside a function that is being differentiated "
                    "would lose its gradient: use NumPy's functions, or t.item() where a mere number is meant"
                )
            if _is_stored(sys._getframe(1)):
                raise GraphError(
                    "an array cannot keep the history of a Tensor that is assigned to one of its elements, so "
                    "gradients would be wrong: build the result with np.stack([...]), or assign t.item()"
                )
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self._data.__index__()  # type: ignore[no-any-return]

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        text = np.array2string(self._data, separator=", ", prefix="Tensor(")
        if self._data.dtype not in (_default_dtype, np.dtype(int), np.dtype(bool)):
            text += f", dtype={self._data.dtype}"
        if self._name is not None:
            text += f", name={self._name!r}"
        if self._node is not None:
            text += ", requires_grad=True" if self._node.op is None else f", op={self._node.op.name}"
        return f"Tensor({text})"

    # Out of the graph ------------------------------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same values (and memory) without the history: a constant."""
        return _wrap(self._data, None)

    def numpy(self) -> npt.NDArray[Any]:
        """The array, when no gradient is wanted; raises GraphError otherwise, since gradients would get lost."""
        if self._node is not None:
            raise GraphError(
                f"this Tensor of shape {self.shape} is part of a graph, and an array made of it would lose its "
                "gradient without a word: use .detach().numpy() or .data"
            )
        return self._data  # type: ignore[no-any-return]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def item(self, *index: Any) -> Any:
        """The one element, or that at ``index``, as a Python number; raises ValueError when there are several."""
        if index:
            return self._data.item(*index)
        if self.size != 1:
            raise ValueError(f"item() needs a Tensor of one element; this one has shape {self.shape}")
        return self._data.item()

    def tolist(self) -> Any:
        """The elements as nested Python lists."""
        return self._data.tolist()

    # Gradients -------------------------------------------------------------------------------------------------------

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Compute the gradient of this Tensor with respect to every leaf it came from, and add it to their ``grad``.

        ``gradient`` (of this Tensor's shape) is where the walk starts; a scalar starts with 1. The graph is freed
        as it is walked, unless ``retain_graph``. With ``create_graph`` the gradients can be differentiated again.

        Raises GraphError for a second walk over a freed graph, a value changed in place since it was used, a
        Tensor without a graph, or a non-scalar without ``gradient``; ShapeError for one of another shape.

        >>> import tinygrad_opt as tg
        >>> x = tg.Tensor(3.0, requires_grad=True)
        >>> (x * x).backward()
        >>> x.grad.item()
        6.0
        """
        root = self._node
        if root is None:
            raise GraphError(
                "backward() has nothing to walk: no Tensor that this one was computed from has requires_grad=True, "
                "or it was computed under no_grad()"
            )
        seed = self._seed(gradient)
        if create_graph:
            with graph.set_grad_enabled(True):
                grads = graph.backpropagate([(root, lift(seed, None))], retain_graph=True, lift=lift)
                for node, g in grads.items():
                    if node.op is None or node.retain:
                        node.grad = g.copy() if node.grad is None else node.grad + g
            return
        for node, g in graph.backpropagate([(root, _unwrap(seed))], retain_graph=retain_graph).items():
            if node.grad is not None:
                g = _unwrap(node.grad) + g
            elif g.base is not None:
                g = g.copy()
            node.grad = g if g.__class__ is _ndarray else np.asarray(g)

    def _seed(self, gradient: Any) -> Any:
        """Where the backward walk starts: the gradient given, checked, or 1 for a scalar."""
        data = self._data
        if gradient is None:
            if data.size != 1:
                raise GraphError(
                    f"backward() of a non-scalar, of shape {self.shape}, needs to know where to start: "
                    "reduce it first (.sum(), .mean()), or pass backward(gradient) of that shape"
                )
            return np.ones(data.shape, data.dtype) if data.ndim else data.dtype.type(1)
        seed = gradient if isinstance(gradient, Tensor) else np.array(gradient, data.dtype)
        if seed.shape != data.shape:
            raise ShapeError(f"backward(gradient) needs the shape of the Tensor, {self.shape}; got {seed.shape}")
        return seed.astype(data.dtype)  # a copy, which the gradient of a leaf may become

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate result in ``grad`` when ``backward()`` passes it."""
        if self._node is None:
            raise GraphError("retain_grad() needs a Tensor that is part of a graph")
        self._node.retain = True

    # NumPy's protocols -----------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        function: Callable[..., Any] = ufunc
        if method != "__call__":
            function = UFUNC_METHODS.get((ufunc, method), getattr(ufunc, method))
            if function in TABLE:
                kwargs = {"axis": 0} | kwargs
        result = call(function, inputs, kwargs)
        if out is None:
            return result
        if len(out) == 1:
            return _store(result, out[0])
        return tuple(r if o is None else _store(r, o) for r, o in zip(result, out, strict=True))

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return call(function, args, kwargs)

    # Operators -------------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return apply(np.add, (self, other))

    def __radd__(self, other: Any) -> Tensor:
        return apply(np.add, (other, self))

    def __sub__(self, other: Any) -> Tensor:
        return apply(np.subtract, (self, other))

    def __rsub__(self, other: Any) -> Tensor:
        return apply(np.subtract, (other, self))

    def __mul__(self, other: Any) -> Tensor:
        return apply(np.multiply, (self, other))

    def __rmul__(self, other: Any) -> Tensor:
        return apply(np.multiply, (other, self))

    def __truediv__(self, other: Any) -> Tensor:
        return apply(np.divide, (self, other))

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply(np.divide, (other, self))

    def __matmul__(self, other: Any) -> Tensor:
        return apply(np.matmul, (self, other))

    def __rmatmul__(self, other: Any) -> Tensor:
        return apply(np.matmul, (other, self))

    def __pow__(self, other: Any) -> Tensor:
        return apply(np.power, (self, other))

    def __rpow__(self, other: Any) -> Tensor:
        return apply(np.power, (other, self))

    def __mod__(self, other: Any) -> Tensor:
        return apply(np.remainder, (self, other))

    def __rmod__(self, other: Any) -> Tensor:
        return apply(np.remainder, (other, self))

    def __neg__(self) -> Tensor:
        return apply(np.negative, (self,))

    def __pos__(self) -> Tensor:
        return apply(np.positive, (self,))

    def __abs__(self) -> Tensor:
        return apply(np.absolute, (self,))

    def __getitem__(self, index: Any) -> Tensor:
        return apply(shaping.getitem, (self, _unwrap(index) if self._node is None else _kept(index)))

    def __divmod__(self, other: Any) -> Any:
        return call(np.divmod, (self, other), {})

    def __rdivmod__(self, other: Any) -> Any:
        return call(np.divmod, (other, self), {})

    # Piecewise constant operators and comparisons give plain arrays.

    def __floordiv__(self, other: Any) -> Any:
        return call(np.floor_divide, (self, other), {})

    def __rfloordiv__(self, other: Any) -> Any:
        return call(np.floor_divide, (other, self), {})

    def __eq__(self, other: object) -> Any:
        return call(np.equal, (self, other), {})

    def __ne__(self, other: object) -> Any:
        return call(np.not_equal, (self, other), {})

    def __lt__(self, other: Any) -> Any:
        return call(np.less, (self, other), {})

    def __le__(self, other: Any) -> Any:
        return call(np.less_equal, (self, other), {})

    def __gt__(self, other: Any) -> Any:
        return call(np.greater, (self, other), {})

    def __ge__(self, other: Any) -> Any:
        return call(np.greater_equal, (self, other), {})

    def __and__(self, other: Any) -> Any:
        return call(np.bitwise_and, (self, other), {})

    def __rand__(self, other: Any) -> Any:
        return call(np.bitwise_and, (other, self), {})

    def __or__(self, other: Any) -> Any:
        return call(np.bitwise_or, (self, other), {})

    def __ror__(self, other: Any) -> Any:
        return call(np.bitwise_or, (other, self), {})

    def __xor__(self, other: Any) -> Any:
        return call(np.bitwise_xor, (self, other), {})

    def __rxor__(self, other: Any) -> Any:
        return call(np.bitwise_xor, (other, self), {})

    def __invert__(self) -> Any:
        return call(np.invert, (self,), {})

    __hash__ = object.__hash__

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self.is_leaf:
            raise GraphError("a computed Tensor cannot be copied with its graph: use .copy(), or .detach() it first")
        return super().__reduce_ex__(protocol)

    def __setstate__(self, state: Any) -> None:
        """A copy gets a node of its own, numbered now: the original's number may be of another process."""
        attributes, slots = state
        for name, value in {**(attributes or {}), **slots}.items():
            object.__setattr__(self, name, value)
        node = self._node
        if node is not None:
            self._node = record(None, None, NO_OPTIONS, self._data, ())
            self._node.name, self._node.grad = node.name, node.grad

    # In place: under no_grad the array changes; otherwise the name is bound to a new Tensor --------------------------

    def __iadd__(self, other: Any) -> Tensor:
        return self._in_place(np.add, other)

    def __isub__(self, other: Any) -> Tensor:
        return self._in_place(np.subtract, other)

    def __imul__(self, other: Any) -> Tensor:
        return self._in_place(np.multiply, other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._in_place(np.divide, other)

    def __ipow__(self, other: Any) -> Tensor:
        return self._in_place(np.power, other)

    def __imatmul__(self, other: Any) -> Tensor:
        return self._in_place(np.matmul, other)

    def __ifloordiv__(self, other: Any) -> Any:
        if not is_grad_enabled():
            return self._in_place(np.floor_divide, other)
        self._refuse_change_of_leaf("np.floor_divide in place")
        return self // other

    def __imod__(self, other: Any) -> Tensor:
        return self._in_place(np.remainder, other)

    def _in_place(self, ufunc: np.ufunc, other: Any) -> Tensor:
        if not is_grad_enabled():
            ufunc(self._data, _unwrap(other), out=self._data)
            graph.note_changes([graph.watch(self._data)])
            return self
        self._refuse_change_of_leaf(f"np.{ufunc.__name__} in place")
        return apply(ufunc, (self, other))

    def __setitem__(self, index: Any, value: Any) -> None:
        if is_grad_enabled():
            self._refuse_change_of_leaf("an assignment to elements")
            if self._node is not None or _in_graph(value):
                raise GraphError(
                    "an assignment to elements is not recorded, so gradients would be wrong: build the result with "
                    "np.where or np.concatenate, or assign under tg.no_grad()"
                )
        self._data[_unwrap(index)] = _unwrap(value)
        graph.note_changes([graph.watch(self._data)])

    def _refuse_change_of_leaf(self, what: str) -> None:
        if self._node is not None and self._node.op is None:
            raise GraphError(
                f"{what} would change a leaf that requires a gradient (shape {self.shape}): update it under "
                "tg.no_grad(), or write w = w - ... to compute a new Tensor"
            )

    # ndarray's methods, with its arguments in its order (out is refused: a gradient would get lost) -------------------

    def sum(self, axis: Axis = None, dtype: Any = None, out: None = None, keepdims: bool = False) -> Tensor:
        """``np.sum``."""
        return apply(np.sum, (self,), {"axis": axis, "keepdims": keepdims} | _given(dtype=dtype, out=out))

    def mean(self, axis: Axis = None, dtype: Any = None, out: None = None, keepdims: bool = False) -> Tensor:
        """``np.mean``."""
        return apply(np.mean, (self,), {"axis": axis, "keepdims": keepdims} | _given(dtype=dtype, out=out))

    def var(
        self, axis: Axis = None, dtype: Any = None, out: None = None, ddof: float = 0, keepdims: bool = False
    ) -> Tensor:
        """``np.var``."""
        options = {"axis": axis, "ddof": ddof, "keepdims": keepdims} | _given(dtype=dtype, out=out)
        return apply(np.var, (self,), options)

    def std(
        self, axis: Axis = None, dtype: Any = None, out: None = None, ddof: float = 0, keepdims: bool = False
    ) -> Tensor:
        """``np.std``."""
        options = {"axis": axis, "ddof": ddof, "keepdims": keepdims} | _given(dtype=dtype, out=out)
        return apply(np.std, (self,), options)

    def prod(self, axis: Axis = None, dtype: Any = None, out: None = None, keepdims: bool = False) -> Tensor:
        """``np.prod``."""
        return apply(np.prod, (self,), {"axis": axis, "keepdims": keepdims} | _given(dtype=dtype, out=out))

    def max(self, axis: Axis = None, out: None = None, keepdims: bool = False) -> Tensor:
        """``np.max``; elements that tie share the gradient equally."""
        return apply(np.max, (self,), {"axis": axis, "keepdims": keepdims} | _given(out=out))

    def min(self, axis: Axis = None, out: None = None, keepdims: bool = False) -> Tensor:
        """``np.min``; elements that tie share the gradient equally."""
        return apply(np.min, (self,), {"axis": axis, "keepdims": keepdims} | _given(out=out))

    def cumsum(self, axis: int | None = None, dtype: Any = None, out: None = None) -> Tensor:
        """``np.cumsum``."""
        return apply(np.cumsum, (self,), {"axis": axis} | _given(dtype=dtype, out=out))

    def cumprod(self, axis: int | None = None, dtype: Any = None, out: None = None) -> Tensor:
        """``np.cumprod``."""
        return apply(np.cumprod, (self,), {"axis": axis} | _given(dtype=dtype, out=out))

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """``np.argmax``: a plain array."""
        return self._data.argmax(axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """``np.argmin``: a plain array."""
        return self._data.argmin(axis=axis, keepdims=keepdims)

    def argsort(self, axis: int | None = -1) -> Any:
        """``np.argsort``: a plain array."""
        return self._data.argsort(axis=axis)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """``np.all``: a plain array."""
        return self._data.all(axis=axis, keepdims=keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """``np.any``: a plain array."""
        return self._data.any(axis=axis, keepdims=keepdims)

    def argpartition(self, kth: Any, axis: int | None = -1) -> Any:
        """``np.argpartition``: a plain array."""
        return self._data.argpartition(kth, axis=axis)

    def searchsorted(self, v: Any, side: Any = "left", sorter: Any = None) -> Any:
        """``np.searchsorted``: a plain array."""
        return self._data.searchsorted(_unwrap(v), side=side, sorter=sorter)

    def nonzero(self) -> Any:
        """``np.nonzero``: plain arrays."""
        return self._data.nonzero()

    def round(self, decimals: int = 0) -> Any:
        """``np.round``: a plain array."""
        return self._data.round(decimals)

    def reshape(self, *shape: Any, order: str = "C") -> Tensor:
        """``np.reshape``; the shape as one tuple or as several integers."""
        if order == "C":
            return apply(np.reshape, (self, _one_tuple(shape)))
        return apply(np.reshape, (self, _one_tuple(shape)), {"order": order})

    def transpose(self, *axes: Any) -> Tensor:
        """``np.transpose``; the axes as one tuple or as several integers, reversed when there are none."""
        return apply(np.transpose, (self, _one_tuple(axes) or None))

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """``np.swapaxes``."""
        return apply(np.swapaxes, (self, axis1, axis2))

    def squeeze(self, axis: Axis = None) -> Tensor:
        """``np.squeeze``."""
        return apply(np.squeeze, (self,), {"axis": axis})

    def ravel(self, order: str = "C") -> Tensor:
        """``np.ravel``."""
        return apply(np.ravel, (self,), {"order": order})

    def flatten(self, order: str = "C") -> Tensor:
        """``np.ravel``, always in memory of its own."""
        return self.ravel(order).copy()

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        """``np.clip``."""
        return apply(elementwise.clip, (self, min, max))

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        """``np.repeat``."""
        return apply(np.repeat, (self, repeats, axis))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """``np.diagonal``."""
        return apply(np.diagonal, (self, offset, axis1, axis2))

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """``np.trace``."""
        return call(np.trace, (self, offset, axis1, axis2), {})  # type: ignore[no-any-return]

    def dot(self, other: Any) -> Tensor:
        """``np.dot``."""
        return apply(np.dot, (self, other))

    def compress(self, condition: Any, axis: int | None = None) -> Tensor:
        """``np.compress``."""
        return apply(np.compress, (condition, self), {"axis": axis})

    def conj(self) -> Tensor:
        """``np.conjugate``: the same values, for they are real."""
        return apply(np.conjugate, (self,))

    conjugate = conj

    def take(self, indices: Any, axis: int | None = None, out: None = None, mode: str = "raise") -> Tensor:
        """``np.take``: the elements (or slices along ``axis``) at ``indices``."""
        if mode != "raise" or out is not None:
            return apply(np.take, (self, indices), {"axis": axis, "mode": mode} | _given(out=out))
        source = self.ravel() if axis is None else self
        before = np.lib.array_utils.normalize_axis_index(axis or 0, source.ndim)
        indices = as_array(_unwrap(indices))
        if indices.dtype.kind == "b":  # np.take knows no masks
            indices = indices.astype(np.intp)
        return source[(slice(None),) * before + (indices,)]

    def astype(self, dtype: npt.DTypeLike, *, copy: bool = True) -> Tensor:
        """The values in another dtype (always a copy); the gradient comes back in this one's."""
        return apply(elementwise.astype, (self, np.dtype(dtype)))

    def copy(self) -> Tensor:
        """The values in new memory, still part of the graph."""
        return apply(elementwise.astype, (self, self.dtype))


# ---------------------------------------------------------------------------------------------------------------------
# What arrays have and Tensors do not


class _Missing:
    """Says what to use instead of an attribute of arrays. (`__getattr__` would do, and make all attributes slower.)"""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tensor: Tensor | None, kind: type) -> NoReturn:
        function = getattr(np, self.name, None)
        known = function in TABLE or function in COMPOSITES
        instead = f"use np.{self.name}(t)" if known else f"its array has, without a gradient: use t.data.{self.name}"
        raise AttributeError(f"a Tensor has no attribute {self.name!r}; {instead}", name=self.name, obj=tensor)


for _name in dir(np.ndarray):
    if not _name.startswith("_") and _name not in dir(Tensor):
        setattr(Tensor, _name, _Missing(_name))

# ---------------------------------------------------------------------------------------------------------------------
# Calling a function


def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run any NumPy function or primitive that was called with Tensors, or raise MissingRuleError."""
    if function in TABLE:
        return apply(function, args, kwargs)
    if function in COMPOSITES:
        return _compose(function, args, kwargs)
    if function in NON_DIFFERENTIABLE:
        return function(*map(_unwrap, args), **{name: _unwrap(value) for name, value in kwargs.items()})
    name = name_of(function)
    raise MissingRuleError(
        f"{name} has no gradient rule, so it cannot be called with Tensors. Add one with "
        f"tg.defvjp({name}, lambda g, out, x: ...), or call it with arrays: t.detach().numpy()"
    )


def apply(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] = NO_OPTIONS) -> Tensor:
    """Run ``function``, a row of the rule table, and leave a Node behind if a gradient will be wanted."""
    op = TABLE[function]
    if kwargs or len(args) > op.positional:
        args, kwargs = _as_the_rules_take_it(op, args, kwargs)
    if op.lists:
        args = tuple(_rows(arg) if position in op.lists else arg for position, arg in enumerate(args))
    values = [*args]
    parents: list[Node | None] | None = None
    for position, arg in enumerate(args):
        if isinstance(arg, Tensor):
            values[position] = arg._data
            node = arg._node
            if node is not None:
                if op.rules[position] is not None:
                    if parents is None:
                        parents = [None] * len(args)
                    parents[position] = node
                elif position >= op.inputs:
                    raise _no_rule_for_input(op, position)
        elif arg.__class__ in _SEQUENCES:
            arg = _array_of(op, position, arg)
            if isinstance(arg, Tensor):
                return apply(function, (*args[:position], arg, *args[position + 1 :]), kwargs)
            values[position] = arg
    arrays = tuple(values)
    if op.prepare is not None:
        kwargs = {**kwargs, "prepared": op.prepare(*arrays, **kwargs)}
    out = op.forward(*arrays, **kwargs) if kwargs else op.forward(*arrays)
    enabled, anomaly = mode.now
    if anomaly:
        graph.check_finite(out, op.name, graph.shapes_of(arrays, out), graph.users_line())
    if out.__class__ is not _ndarray:
        if isinstance(out, np.generic):
            out = np.asarray(out)
        elif isinstance(out, (list, tuple)):
            if function is not pack:
                return _several(op, arrays, kwargs, out, parents)  # type: ignore[no-any-return]
        elif not hasattr(out, "__array_function__"):
            kind = f"{type(out).__module__}.{type(out).__name__}"
            raise TypeError(f"{op.name} of a Tensor and something else made a {kind}: give it arrays, np.asarray(x)")
    if parents is None or not enabled:
        return _wrap(out, None)
    if function is not pack and out.dtype.kind != "f":
        if out.dtype.kind not in "iub":
            raise TypeError(
                f"{op.name} makes numbers of dtype {out.dtype} of a Tensor that a gradient is wanted of, and Tensors "
                "hold real numbers: compute with the real and the imaginary part"
            )
        return _wrap(out, None)
    node = record(op, arrays, kwargs, out, parents)
    if anomaly:
        node.line = graph.users_line()
    return _wrap(out, node)


def lift(value: Any, node: Node | None) -> Any:
    """A value of the graph as a Tensor again, made by ``node``: what `graph.backpropagate` wants."""
    if isinstance(value, Bundle):
        return tuple(_member(value, node, i) for i in range(len(value)))
    return value if isinstance(value, Tensor) else _wrap(np.asarray(value) if np.isscalar(value) else value, node)


def _member(bundle: Bundle, node: Node | None, position: int) -> Tensor:
    """One array of a bundle: the result that the user has, where there is one, so that gradients find it."""
    known = bundle.nodes[position]() if bundle.nodes else None
    return apply(unpack, (_wrap(bundle, node), position)) if known is None else _wrap(bundle[position], known)


_new = object.__new__
_ndarray = np.ndarray
_SEQUENCES = (list, tuple)


def _wrap(data: Any, node: Node | None) -> Tensor:
    """A Tensor around ``data`` as it is, without the copies and checks of the constructor."""
    tensor = _new(Tensor)
    tensor._data = data
    tensor._node = node
    tensor._name = None
    return tensor


def as_array(value: Any) -> Any:
    """An array, or what implements NumPy's protocols as an array does, as it is; anything else as an array.

    What is in a Tensor need not be NumPy's: `compile` puts arrays there that remember the calls made on them.
    """
    is_one = hasattr(value, "__array_function__") and not isinstance(value, np.generic)
    return value if is_one else np.asarray(value)


def _new_array(data: Any, dtype: npt.DTypeLike | None) -> Any:
    """A new array of ``data``."""
    if hasattr(data, "__array_function__") and not isinstance(data, np.ndarray):
        return data.astype(data.dtype if dtype is None else dtype)
    return np.array(data, dtype=dtype)


def _several(
    op: Op, values: tuple[Any, ...], kwargs: dict[str, Any], out: Any, parents: list[Node | None] | None
) -> Any:
    """The results of a function that returns several arrays: one Node for the call, one for each result."""
    kind, out = type(out), Bundle(map(as_array, out))
    node = record(op, values, kwargs, out, parents) if parents is not None and is_grad_enabled() else None
    tensors = [apply(unpack, (_wrap(out, node), i)) for i in range(len(out))]
    if node is not None:
        out.nodes = [weakref.ref(t._node) if t._node is not None else lambda: None for t in tensors]
    return kind(*tensors) if hasattr(kind, "_fields") else kind(tensors)


def _compose(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a function that is made of others."""
    implementation = COMPOSITES[function]
    try:
        given = inspect.signature(implementation).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise MissingRuleError(f"{name_of(function)} with Tensors: {error}") from None
    if given.get("out") is not None:
        raise MissingRuleError(f"{name_of(function)}(out=...) cannot be recorded: write the result to a new name")
    return implementation(*args, **kwargs)


def _as_the_rules_take_it(
    op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with inputs by position, and by keyword the options that the rules take so and understand."""
    if op.inputs <= len(args) <= op.positional and kwargs.keys() <= op.plain_options and not _holds_tensor(kwargs):
        return args, kwargs
    kwargs = dict(kwargs)
    names = list(op.parameters)
    if len(args) > op.positional:
        given = dict(zip(names[op.positional :], args[op.positional :], strict=False))
        if len(given) < len(args) - op.positional:
            raise MissingRuleError(f"{op.name}: pass the options after the first {op.positional} arguments by keyword")
        args, kwargs = args[: op.positional], given | kwargs
    while len(args) < len(names) and (len(args) < op.inputs or _holds_tensor(kwargs)) and names[len(args)] in kwargs:
        args = (*args, kwargs.pop(names[len(args)]))
    for name, value in list(kwargs.items()):
        if _in_graph(value):
            raise MissingRuleError(f"{op.name}: pass Tensors by position, not by keyword; got {name}=")
        kwargs[name] = _unwrap(value)
        if name == "out":
            if value is not None:
                raise MissingRuleError(f"{op.name}(out=...) cannot be recorded: write the result to a new name")
            del kwargs[name]
            continue
        if name == "order" and value in ("A", "K"):
            raise MissingRuleError(f'{op.name} has gradient rules for order="C" and "F"; got {value!r}')
        if op.options is None or name in op.options:
            continue
        if value is not op.parameters.get(name, op):
            raise MissingRuleError(f"{op.name} has no gradient rule for its option {name}=")
        del kwargs[name]
    return args, kwargs


def _no_rule_for_input(op: Op, position: int) -> MissingRuleError:
    return MissingRuleError(
        f"{op.name} has gradient rules for {op.inputs} inputs, but input {position} needs one too: "
        "give tg.defvjp one rule per input, and None for an input that has no gradient"
    )


def _array_of(op: Op, position: int, items: Sequence[Any]) -> Any:
    """A list or tuple argument: for an option as it is, for a list of arrays one packed Tensor, else one array."""
    if position >= op.inputs or op.rules[position] is None:
        if any(map(_in_graph, items)):
            raise _no_rule_for_input(op, position)
        return _unwrap(items)
    if position in op.lists:
        items = [item if isinstance(item, Tensor) else as_array(item) for item in items]
        return apply(pack, tuple(items)) if any(isinstance(item, Tensor) for item in items) else items
    return _stacked(items)


def _rows(arrays: Any) -> Any:
    """What stands for a list of arrays: of one Tensor its rows, other things (also what is packed) as they are."""
    return [*arrays] if isinstance(arrays, Tensor) and not isinstance(arrays._data, Bundle) else arrays


def _stacked(items: Any) -> Any:
    """Nested lists as one array, or as one Tensor when there are Tensors in them."""
    if not isinstance(items, (list, tuple)):
        return items
    items = [_stacked(item) for item in items]
    arrays = any(hasattr(item, "__array_function__") and not isinstance(item, np.ndarray) for item in items)
    return np.stack(items) if arrays else np.asarray(items)


def _holds_tensor(kwargs: dict[str, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in kwargs.values())


def _store(result: Any, out: Any) -> Any:
    """Finish ``array += tensor``: allowed only where no gradient gets lost."""
    if _in_graph(result) or isinstance(out, Tensor):
        raise GraphError(
            "writing a Tensor that is part of a graph into an existing array (out=, or array += tensor) would lose its "
            "gradient: write array = array + tensor, or use .detach()"
        )
    np.copyto(out, _unwrap(result), casting="same_kind")
    graph.note_changes([graph.watch(out)])
    return out


def _unwrap(value: Any) -> Any:
    """``value`` with the Tensors in it, also inside lists, tuples and index expressions, replaced by their arrays."""
    if isinstance(value, Tensor):
        return value._data
    if isinstance(value, (list, tuple)) and any(isinstance(item, (Tensor, list, tuple)) for item in value):
        items = map(_unwrap, value)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _kept(index: Any) -> Any:
    """An index as it is now, for the backward pass: of lists and arrays, which may change until then, a copy."""
    if isinstance(index, tuple):
        return tuple(map(_kept, index))
    index = _unwrap(index)
    return index.copy() if isinstance(index, (list, _ndarray)) else index


def _is_stored(frame: FrameType) -> bool:
    """Whether the code of a frame is just at an assignment to an element: ``array[i] = ...``."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] == "STORE_SUBSCR"


def _in_graph(value: Any) -> bool:
    return isinstance(value, Tensor) and value._node is not None


def _holds_graph(value: Any) -> bool:
    """Whether a Tensor of a graph is somewhere in lists in lists."""
    return any(map(_holds_graph, value)) if isinstance(value, (list, tuple)) else _in_graph(value)


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _one_tuple(values: tuple[Any, ...]) -> Any:
    """``((2, 3),)`` or ``(2, 3)`` -> ``(2, 3)``."""
    if len(values) == 1 and (values[0] is None or isinstance(values[0], (tuple, list))):
        return values[0]
    return values
