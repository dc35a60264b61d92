"""The types of the stub, by name of argument and function. A key is ``owner.function.argument``, ``function.argument`` or
``argument``; the longest that fits counts."""

from __future__ import annotations

HEAD = '''"""The Rust half of the package. Written by scripts/make_stubs.py from the built module."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, Literal, final, overload

from typing_extensions import Self, disjoint_base

from ._types import Array, Bool, Data, DLPack, DType, DTypeLike, Float, Index, Int, Ints, Number, Operand, TensorLike, ValuesIndices

'''
# `bool`, `int` and `float` are methods and dtypes of the module: in the stub the types are Bool, Int and Float.


class Unknown(Exception):
    """A name without a type."""


class Types:
    """A table with its rule."""

    def __init__(self, *groups: tuple[str, str], otherwise: str | None = None) -> None:
        self.rows = {key: type_ for type_, keys in groups for key in keys.split()}
        self.otherwise = otherwise

    def of(self, *path: str) -> str:
        """The type of the longest key that fits."""
        for start in range(len(path)):
            found = self.rows.get(".".join(path[start:]))
            if found:
                return found
        if self.otherwise is None:
            raise Unknown(".".join(path))
        return self.otherwise


REDUCED = "sum mean prod any all amax amin var std norm count_nonzero"
ARGUMENTS = Types(
    ("Tensor", "input _shares_memory.other allclose.other equal.other type_as.other new source_tensor _recast.new _store.new "
     "split.tensor inputs_tensor copy_.src_tensor where.condition expand_as.other view_as.other reshape_as.other"),
    ("Operand", "other value alpha weight_number lerp.weight lerp_.weight r src exponent"),
    ("TensorLike", "key tensor mat2 vec vec2 mask condition indices index linear_weight linear_bias end_tensor lerp.end lerp_.end y gate.y target mean_tensor "
     "matmul.other __matmul__.value __rmatmul__.value attn_mask weight bias pos_weight scaled_dot_product_attention.value "
     "_batch_norm.mean var forward.tokens copy_.src embedding.weight linear.input"),
    ("Ints", " ".join(f"{name}.dim" for name in REDUCED.split()) + " logsumexp.dim squeeze.dim size stride padding dilation "
     "output_padding kernel_size output_size dims source destination shifts sizes split_size split_size_or_sections normalized_shape "
     "reshape.shape view.shape pad.pad new_full.size"),
    ("Int", "dim dim0 dim1 dim2 axis0 axis1 dimension unfold.size unfold.step offset start_dim end_dim length k chunks groups num "
     "num_classes num_groups seed n m ignore_index padding_idx divisor_override low high steps storage_offset diagonal select.index "
     "narrow.start cell hidden max_new_tokens top_k repeat_interleave.repeats _Layer.__new__.input"),
    ("Ints", "repeats"),
    ("Float", "eps p correction beta delta dropout_p negative_slope norm_type scale start end step temperature top_p min_p lr "
     "repetition_penalty fill_value fill_.value masked_fill.value masked_fill_.value pad.value mean std a b min max rtol atol "
     "label_smoothing elu.alpha"),
    ("Bool", "keepdim requires_grad training descending largest ceil_mode count_include_pad is_causal create_graph allow_unused "
     "log_target non_blocking equal_nan force copy causal weights"),
    ("Bool | None", "retain_graph _set_grad_mode.mode __dlpack__.copy __array__.copy"),
    ("DTypeLike", "dtype d type1 type2"),
    ("str", "equation kind name op text spec rounding_mode_text _save.path _load.path _Pretrained.__new__.path"),
    ('Literal["floor", "trunc"]', "rounding_mode"),
    ('Literal["mean", "sum", "none"]', "reduction"),
    ('Literal["none", "tanh"]', "approximate"),
    ('Literal["constant", "reflect", "replicate", "circular"]', "pad.mode"),
    ("DType", "_dtype _from_bytes.dtype"),
    ("Data", "data"),
    ("Data | None", "Tensor.__new__.data"),
    ("bytes", "_from_bytes.data"),
    ("list[Int]", "_from_bytes.shape ids _Pretrained.generate.tokens"),
    ("list[str]", "texts"),
    ("Index", "__getitem__.key __setitem__.key __delitem__.key"),
    ("Operand", "__contains__.key"),
    ("Array", "array"),
    ("DLPack", "source_dlpack _from_dlpack.source"),
    ("list[Tensor]", "tensors outputs params"),
    ("Sequence[TensorLike]", "_cat.tensors _stack.tensors _einsum.operands"),
    ("Mapping[str, Tensor]", "_save.tensors"),
    ("list[Tensor]", "inputs"),
    ("list[Tensor | None]", "grad_tensors _record.inputs"),
    ("list[Tensor | None] | None", "grad_outputs"),
    ("Tensor", "gradient"),
    ("Callable[[Tensor], Tensor | None]", "hook"),
    ("Callable[..., Tensor | tuple[Tensor | None, ...] | None]", "_record.backward"),
    ("str | PathLike[str]", "folder"),
    ("dict[Int, Any]", "memo"),
    ("dict[str, Any]", "settings"),
    ("list[tuple[str, Tensor]]", "state"),
    ("Tensor", "_Layer.forward.x _Layer.forward.a _Layer.forward.b attn_mask_tensor key_padding_mask memory_mask "
     "memory_key_padding_mask _Layer.forward.attn_mask"),
    ("list[Int]", "lengths"),
    ("None", "mod"),
    ("Tensor | DTypeLike", "to.args"),
    ("str", "device"),
    # What the protocols of others hand over, and no more than is asked for.
    ("Any", "stream max_version dl_device _item __array__.dtype"),
    ("object", "dtype.__eq__.value dtype.__ne__.value"),
    ("dtype", "dtype.__lt__.value dtype.__le__.value dtype.__gt__.value dtype.__ge__.value"),
    ("DTypeLike", "type.dtype"),
)
RETURNS = Types(
    ("Int", "dim numel nelement itemsize nbytes element_size ndim __len__ __int__ __index__ __hash__ width get_num_threads"),
    ("Bool", "is_contiguous is_floating_point is_leaf requires_grad _shares_memory is_grad_enabled __bool__ __contains__ allclose "
     "equal dtype.__eq__ dtype.__ne__"),
    ("Float", "__float__"),
    ("str", "device __repr__ __format__ _repr_html_ architecture decode dtype.__reduce__"),
    ("str | None", "grad_fn"),
    ("tuple[Int, ...]", "shape"),
    ("DType", "Tensor.dtype get_default_dtype promote_types"),
    ("Tensor | None", "grad _base"),
    ("None", "backward retain_grad _recast manual_seed set_default_dtype _set_num_threads _save remove __setitem__ __delitem__ "
     "_Optimizer.step load_state_dict"),
    ("list[Tensor]", "split chunk unbind _record _Layer.forward"),
    ("list[Tensor | None]", "_grad"),
    ("ValuesIndices", "sort topk"),
    ("ArrayView", "_array"),
    ("bytes", "_to_bytes __bytes__"),
    ("RemovableHandle", "register_hook"),
    ("Bool | None", "_set_grad_mode"),
    ("dict[str, Tensor]", "_load"),
    ("tuple[Tensor, Tensor, Tensor]", "_batch_norm_train"),
    ("tuple[Tensor, Tensor]", "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices"),
    ("Iterator[Tensor]", "__iter__"),
    ("tuple[Int, Int]", "__dlpack_device__"),
    ("Number", "item"),
    ("list[tuple[str, Tensor]]", "parameters state_dict"),
    ("list[Int]", "encode generate"),
    ("SentenceEncoder", "from_pretrained"),
    ("Self", "requires_grad_ cpu __iadd__ __isub__ __imul__ __itruediv__ __ipow__ __ifloordiv__ __imod__ __iand__ __ior__ __ixor__ __ilshift__ __irshift__"),
    ("type[Self]", "__class_getitem__"),
    ("dict[str, Any]", "__array_interface__"),
    ("tuple[Any, ...]", "Tensor.__reduce__"),
    # Nested lists of any depth; arrays of NumPy, which need not be there; a capsule; a picture with its `svg`.
    ("Any", "tolist numpy __array__ __dlpack__ picture"),
    ("Bool", "dtype.__lt__ dtype.__le__ dtype.__gt__ dtype.__ge__"),
    otherwise="Tensor",
)
ATTRIBUTES = {"__array_priority__": "Int", "__array_ufunc__": "None"}
SETTERS = {
    ("Tensor", "grad"): "Tensor | None",
    ("Tensor", "data"): "Tensor",
    ("Tensor", "requires_grad"): "Bool",
}


def _extremes(first: str) -> list[tuple[str, str]]:
    return [
        (f"{first}dim: None = None, keepdim: Bool = False, *, other: None = None", "Tensor"),
        (f"{first}dim: Int, keepdim: Bool = False, *, other: None = None", "ValuesIndices"),
        (f"{first}dim: Tensor, keepdim: Bool = False, *, other: None = None", "Tensor"),
        (f"{first}dim: None = None, keepdim: Bool = False, *, other: Operand", "Tensor"),
    ]


_SIZE = [("self, /, dim: None = None", "tuple[Int, ...]"), ("self, /, dim: Int", "Int")]
OVERLOADS = {
    ("Tensor", "max"): _extremes("self, /, "),
    ("Tensor", "min"): _extremes("self, /, "),
    ("", "max"): _extremes("input: Tensor, "),
    ("", "min"): _extremes("input: Tensor, "),
    ("Tensor", "size"): _SIZE,
    ("Tensor", "stride"): _SIZE,
    ("Tensor", "type"): [("self, dtype: None = None", "str"), ("self, dtype: DTypeLike", "Tensor")],
}
