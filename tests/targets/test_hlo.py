"""Operations, bytes and collectives of programs, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gan_jax.targets.hlo import Program, Tensor


def costs(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return Program(jax.jit(function).lower(*args).compile().as_text()).costs()


def flops(found):
    return sum(cost.times * cost.flops for cost in found)


def test_products_in_a_loop_count_as_often_as_it_runs():
    def function(x, w):
        return lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=7)[0]

    assert flops(costs(function, (5, 6), (6, 6))) == 7 * 2 * 5 * 6 * 6


def test_loops_in_loops_multiply():
    def function(x, w):
        def inner(x, _):
            return jnp.tanh(x @ w), None

        def outer(x, _):
            return lax.scan(inner, x, None, length=3)[0] + 1, None

        return lax.scan(outer, x, None, length=4)[0]

    assert flops(costs(function, (5, 6), (6, 6))) == 12 * 2 * 5 * 6 * 6


def test_batched_products_count_all_of_them():
    found = costs(lambda x, w: jnp.einsum("bij,bjk->bik", x, w), (3, 4, 5), (3, 5, 6))
    assert flops(found) == 2 * 3 * 4 * 5 * 6


def taps(size, kernel, stride, low, high):
    """Pairs of an input and an output position that meet along an axis."""
    out = (size + low + high - kernel) // stride + 1
    return sum(
        0 <= o * stride + k - low < size for o in range(out) for k in range(kernel)
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pads", [((1, 2), (0, 1)), ((0, 0), (2, 2))])
def test_a_convolution_counts_no_operations_on_its_padding(stride, pads):
    def function(x, w):
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, w, (stride, stride), pads, dimension_numbers=layout
        )

    found = flops(costs(function, (3, 7, 9, 5), (4, 2, 5, 6)))
    rows, columns = (
        taps(size, kernel, stride, *pad)
        for size, kernel, pad in zip((7, 9), (4, 2), pads, strict=True)
    )
    assert found == 2 * 3 * 5 * 6 * rows * columns


# A convolution of [8, 9, 9, 3] by [5, 4, 4, 3] (OHWI) to [8, 5, 5, 5], for cuDNN.
CUDNN = """
ENTRY %main (x: f32[8,9,9,3], w: f32[5,4,4,3], y: f32[8,5,5,5]) -> f32[8,9,9,3] {{
  %x = f32[8,9,9,3]{{3,2,1,0}} parameter(0)
  %w = f32[5,4,4,3]{{3,2,1,0}} parameter(1)
  %y = f32[8,5,5,5]{{3,2,1,0}} parameter(2)
  ROOT %c = ({result}{{3,2,1,0}}, u8[0]{{0}}) custom-call({operands}), \
window={{size=4x4 stride=2x2 pad=1_2x1_2}}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn${call}"
}}
"""


@pytest.mark.parametrize(
    ("call", "operands", "result"),
    [
        ("convForward", "%x, %w", "f32[8,5,5,5]"),
        ("convBackwardInput", "%y, %w", "f32[8,9,9,3]"),
        ("convBackwardFilter", "%x, %y", "f32[5,4,4,3]"),
    ],
)
def test_the_three_calls_of_a_convolution_cost_the_same(call, operands, result):
    text = CUDNN.format(call=call, operands=operands, result=result)
    (found,) = Program(text).costs()
    assert found.flops == 2 * 8 * 3 * 5 * taps(9, 4, 2, 1, 2) ** 2
    assert found.dtype == "f32"
    sizes = {"%x": 8 * 81 * 3, "%w": 5 * 16 * 3, "%y": 8 * 25 * 5}
    written = np.prod([int(n) for n in result[4:-1].split(",")])
    assert found.moved == 4 * (sum(sizes[x] for x in operands.split(", ")) + written)


def test_a_matrix_product_of_cublas():
    text = """
ENTRY %main (a: bf16[7,11], b: bf16[11,13]) -> bf16[7,13] {
  %a = bf16[7,11]{1,0} parameter(0)
  %b = bf16[11,13]{1,0} parameter(1)
  ROOT %c = (bf16[7,13]{1,0}, s8[4194304]{0}) custom-call(%a, %b), \
custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{\
"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],\
"rhs_contracting_dimensions":["0"]}}}
}
"""
    (found,) = Program(text).costs()
    assert (found.flops, found.dtype) == (2 * 7 * 11 * 13, "bf16")
    assert found.moved == 2 * (7 * 11 + 11 * 13 + 7 * 13)  # the workspace is not data


def test_of_an_array_that_is_only_sliced_the_slices_count():
    text = """
%fused (p: f32[1000,64], i: s32[]) -> f32[8,64] {
  %p = f32[1000,64]{1,0} parameter(0)
  %view = f32[64000]{0} bitcast(%p)
  %i = s32[] parameter(1)
  %s = f32[8,64]{1,0} dynamic-slice(%p, %i, %i), dynamic_slice_sizes={8,64}
  %t = f32[16]{0} slice(%view), slice={[0:16]}
  ROOT %r = f32[8,64]{1,0} negate(%s)
}

ENTRY %main (data: f32[1000,64], at: s32[]) -> f32[8,64] {
  %data = f32[1000,64]{1,0} parameter(0)
  %at = s32[] parameter(1)
  ROOT %f = f32[8,64]{1,0} fusion(%data, %at), kind=kLoop, calls=%fused
}
"""
    (found,) = Program(text).costs()
    assert found.moved == 4 * (2 * 8 * 64 + 16 + 1)


def test_slices_that_overlap_are_read_once():
    text = """
%fused (p: f32[10]) -> f32[9] {
  %p = f32[10]{0} parameter(0)
  %a = f32[9]{0} slice(%p), slice={[0:9]}
  %b = f32[9]{0} slice(%p), slice={[1:10]}
  ROOT %r = f32[9]{0} add(%a, %b)
}

ENTRY %main (p: f32[10]) -> f32[9] {
  %p = f32[10]{0} parameter(0)
  ROOT %f = f32[9]{0} fusion(%p), kind=kLoop, calls=%fused
}
"""
    (found,) = Program(text).costs()
    assert found.moved == 4 * (10 + 9)


@pytest.mark.parametrize(
    ("root", "written"),
    [
        ("tuple(%m, %m)", 4 * 6 + 4 * 7),
        ('custom-call(%m), custom_call_target="Two"', 4 * 6 + 4 * 7),
    ],
)
def test_all_results_of_a_fusion_are_written(root, written):
    text = f"""
%fused (p: f32[5]) -> (f32[6], f32[7]) {{
  %m = f32[5]{{0}} parameter(0)
  ROOT %r = (f32[6]{{0}}, f32[7]{{0}}) {root}
}}

ENTRY %main (p: f32[5]) -> (f32[6], f32[7]) {{
  %p = f32[5]{{0}} parameter(0)
  ROOT %f = (f32[6]{{0}}, f32[7]{{0}}) fusion(%p), kind=kCustom, calls=%fused
}}
"""
    (found,) = Program(text).costs()
    assert found.moved == 4 * 5 + written


@pytest.mark.parametrize(("space", "written"), [("", 64), ("S(1)", 0)])
def test_an_update_in_place_counts_the_update(space, written):
    text = """
%fused (p: f32[1000,64], u: f32[1,64], i: s32[]) -> f32[1000,64] {
  %p = f32[1000,64]{1,0} parameter(0)
  %u = f32[1,64]{1,0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %r = f32[1000,64]{1,0} dynamic-update-slice(%p, %u, %i, %i)
}

ENTRY %main (data: f32[1000,64], u: f32[1,64], at: s32[]) -> f32[1000,64] {
  %data = f32[1000,64]{1,0} parameter(0)
  %u = f32[1,64]{1,0} parameter(1)
  %at = s32[] parameter(2)
  ROOT %f = f32[1000,64]{1,0:SPACE} fusion(%data, %u, %at), kind=kLoop, calls=%fused
}
"""
    (found,) = Program(text.replace("SPACE", space)).costs()
    assert found.moved == 4 * (64 + 1 + written)


def test_a_loop_without_a_known_count_runs_to_its_limit():
    text = """
%body (p: (s32[], f32[5,5])) -> (s32[], f32[5,5]) {
  %p = (s32[], f32[5,5]{1,0}) parameter(0)
  %x = f32[5,5]{1,0} get-tuple-element(%p), index=1
  %i = s32[] get-tuple-element(%p), index=0
  %d = f32[5,5]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %t = (s32[], f32[5,5]{1,0}) tuple(%i, %d)
}

%condition (p: (s32[], f32[5,5])) -> pred[] {
  %limit = s32[]{:T(128)} constant(20)
  %p = (s32[], f32[5,5]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (p: (s32[], f32[5,5])) -> (s32[], f32[5,5]) {
  %p = (s32[], f32[5,5]{1,0}) parameter(0)
  ROOT %w = (s32[], f32[5,5]{1,0}) while(%p), condition=%condition, body=%body
}
"""
    assert flops(Program(text).costs()) == 20 * 2 * 5**3


def test_a_branch_counts_as_the_most_expensive_one():
    def function(x, w):
        return lax.cond(x.sum() > 0, lambda: jnp.tanh(x @ w) @ w, lambda: x @ w)

    assert flops(costs(function, (5, 6), (6, 6))) == 2 * 2 * 5 * 6 * 6


@pytest.mark.parametrize(
    ("layout", "padded"),
    [
        ("3,2,1,0", 5 * 6 * 7 * 9),
        ("3,2,1,0:T(8,128)", 5 * 6 * 8 * 128),
        ("0,3,1,2:T(8,128)", 7 * 6 * 16 * 128),
        ("3,2,1,0:T(8,128)(2,1)", 5 * 6 * 8 * 128),
    ],
)
def test_tiles_are_padded_on_the_minor_axes(layout, padded):
    tensor = Tensor("bf16", (5, 6, 7, 9), layout)
    assert (tensor.padded, tensor.useful) == (2 * padded, 2 * 5 * 6 * 7 * 9)


def test_what_a_tpu_keeps_in_its_vector_memory_moves_nothing():
    tensor = Tensor("f32", (256,), "0:T(256)S(1)")
    assert tensor.padded == tensor.useful == 0


def test_collectives_are_read_with_their_bytes():
    text = """
ENTRY %main (a: f32[4,3], b: f32[5]) -> f32[5] {
  %a = f32[4,3]{1,0} parameter(0)
  %b = f32[5]{0} parameter(1)
  %r = (f32[4,3]{1,0}, /*index=1*/f32[5]{0}) all-reduce-start(%a, %b), to_apply=%add
  %d = (f32[4,3]{1,0}, f32[5]{0}) all-reduce-done(%r)
  %g = (f32[5]{0}, f32[40]{0}) all-gather-start(%b), dimensions={0}
  %h = f32[40]{0} all-gather-done(%g)
  %s = f32[1,3]{1,0} reduce-scatter(%a), dimensions={0}, to_apply=%add
  %q = (f32[5]{0}, f32[5]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%b)
  %e = f32[5]{0} collective-permute-done(%q)
  ROOT %p = f32[5]{0} collective-permute(%b), source_target_pairs={{0,1}}
}
"""
    found = [(c.collective, c.sent) for c in Program(text).costs()]
    assert found == [
        ("all-reduce", 4 * 17),
        ("all-gather", 4 * 40),
        ("reduce-scatter", 4 * 12),
        ("collective-permute", 4 * 5),
        ("collective-permute", 4 * 5),
    ]


def test_a_collective_in_the_fusions_of_a_tpu_counts_once():
    text = """
%start (p: f32[5]) -> (f32[5], f32[40], u32[]) {
  %p = f32[5]{0} parameter(0)
  %g = f32[40]{0} all-gather(%p), channel_id=25, dimensions={0}
  ROOT %c = (f32[5]{0}, f32[40]{0}, u32[]) custom-call(%g), \
custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.7 (p: f32[5], q: f32[6,6]) -> (f32[6,6], f32[40]) {
  %p = f32[5]{0} parameter(0)
  %q = f32[6,6]{1,0} parameter(1)
  %g = f32[40]{0} all-gather(%p), channel_id=25, dimensions={0}
  %d = f32[6,6]{1,0} dot(%q, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %t = (f32[6,6]{1,0}, f32[40]{0}) tuple(%d, %g)
}

%done (p: f32[5]) -> f32[40] {
  %p = f32[5]{0} parameter(0)
  %g = f32[40]{0} all-gather(%p), channel_id=25, dimensions={0}
  ROOT %c = f32[40]{0} custom-call(%p, %g), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.1 (p: f32[12,3]) -> f32[2,3] {
  %p = f32[12,3]{1,0} parameter(0)
  %r = f32[12,3]{1,0} all-reduce(%p), channel_id=60, to_apply=%add
  %i = u32[] partition-id()
  ROOT %s = f32[2,3]{1,0} dynamic-slice(%r, %i, %i), dynamic_slice_sizes={2,3}
}

ENTRY %main (b: f32[5], q: f32[6,6], a: f32[12,3]) -> f32[40] {
  %b = f32[5]{0} parameter(0)
  %q = f32[6,6]{1,0} parameter(1)
  %a = f32[12,3]{1,0} parameter(2)
  %x = (f32[5]{0}, f32[40]{0}, u32[]) fusion(%b), kind=kCustom, calls=%start
  %y = (f32[6,6]{1,0}, f32[40]{0}) fusion(%b, %q), kind=kOutput, \
calls=%async_collective_fusion.7
  %z = f32[2,3]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %w = f32[40]{0} fusion(%b), kind=kCustom, calls=%done
}
"""
    found = Program(text).costs()
    assert [(c.collective, c.sent) for c in found if c.collective] == [
        ("all-gather", 4 * 40),
        ("reduce-scatter", 4 * 36),
    ]
    assert flops(found) == 2 * 6**3
