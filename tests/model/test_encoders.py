"""The encoders: what a token stands for, what a slot may know, and which subsets of tokens they take."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ptacl.model.blocks import CMR_SIZES, ECG_SIZES, Size, Transformer, grid_sinusoids, pick, sinusoids
from ptacl.model.build import cmr_encoder, ecg_encoder
from ptacl.model.cmr import CmrEncoder, TinyCmrEncoder
from ptacl.model.ecg import EcgEncoder

SMALL = Size(32, 1, 2)
SLICES, FRAMES, PIXELS, TUBELET, PATCH = 3, 20, 32, 2, 16
SHAPE = (SLICES, FRAMES, PIXELS, PIXELS)


def vit(slices: int = SLICES, size: Size = SMALL) -> CmrEncoder:
    """10 slots of 3 x 2 x 2 tokens, each 2 frames of 16 x 16 pixels."""
    return CmrEncoder(size, slices, FRAMES, PIXELS, TUBELET, PATCH)


def tiny(slices: int = SLICES) -> TinyCmrEncoder:
    return TinyCmrEncoder(SMALL, slices, FRAMES, PIXELS, TUBELET)


ENCODERS = {
    "ecg, time": lambda: (EcgEncoder(SMALL, "time"), (12, 2500)),
    "ecg, lead_time": lambda: (EcgEncoder(SMALL, "lead_time"), (12, 2500)),
    "cine, vit": lambda: (vit(), SHAPE),
    "cine, tiny": lambda: (tiny(), SHAPE),
}
each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS.keys())


def close(a: Tensor, b: Tensor) -> bool:
    """Equal but for the order of additions."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


# Shapes.


@pytest.mark.parametrize("tokens", ["time", "lead_time"])
def test_an_ecg_becomes_one_slot_per_100_ms(tokens: str) -> None:
    encoder = EcgEncoder(SMALL, tokens)
    assert encoder(torch.randn(2, 12, 2500)).shape == (2, 50, 32)
    assert encoder.length == (600 if tokens == "lead_time" else 50) == encoder.slots * encoder.per_slot
    assert encoder.patches(torch.zeros(2, 12, 2500)).shape == (2, encoder.length, 12 * 2500 // encoder.length)


@pytest.mark.parametrize(
    ("slices", "frames", "pixels", "tubelet", "patch"), [(3, 20, 32, 2, 16), (1, 30, 48, 3, 8), (11, 50, 32, 5, 16)]
)
def test_a_cine_becomes_one_slot_per_tubelet(slices: int, frames: int, pixels: int, tubelet: int, patch: int) -> None:
    x = torch.randn(2, slices, frames, pixels, pixels)
    encoder = CmrEncoder(SMALL, slices, frames, pixels, tubelet, patch)
    assert encoder(x).shape == (2, frames // tubelet, 32)
    assert encoder.length == slices * (frames // tubelet) * (pixels // patch) ** 2
    assert encoder.patches(x).shape == (2, encoder.length, tubelet * patch**2)
    assert TinyCmrEncoder(SMALL, slices, frames, pixels, tubelet)(x).shape == (2, frames // tubelet, 32)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_encoders_of_the_config_have_the_width_of_their_size(size: str) -> None:
    settings = {"size": size, "tokens": "time", "tubelet": 2, "patch": 16}
    ecg, cine = ecg_encoder(settings), cmr_encoder(settings, {"slices": 1, "frames": 20, "size": 16})
    assert ecg(torch.randn(1, 12, 2500)).shape == (1, 50, ECG_SIZES[size].dim)
    assert cine(torch.randn(1, 1, 20, 16, 16)).shape == (1, 10, CMR_SIZES[size].dim)
    assert isinstance(cine, TinyCmrEncoder if size == "tiny" else CmrEncoder)
    assert len(ecg.transformer.blocks) == ECG_SIZES[size].depth
    assert len(cine.transformer.blocks) == CMR_SIZES[size].depth


@pytest.mark.parametrize("tokens", ["time", "lead_time"])
@pytest.mark.parametrize("shape", [(1, 12, 5000), (1, 8, 2500), (1, 12, 2499), (12, 2500)])
def test_an_ecg_of_another_shape_is_refused(tokens: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected ECG crops of shape \[B, 12, 2500\], found \[.*\]"):
        EcgEncoder(SMALL, tokens)(torch.zeros(shape))


@pytest.mark.parametrize("make", [vit, tiny])
@pytest.mark.parametrize("shape", [(1, 3, 25, 32, 32), (1, 4, 20, 32, 32), (1, 3, 20, 32, 48), (3, 20, 32, 32)])
def test_a_cine_of_another_shape_is_refused(make: type, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected cines of shape \[B, 3, 20, 32, 32\], found \[.*\]"):
        make()(torch.zeros(shape))


@pytest.mark.parametrize(("frames", "pixels"), [(21, 32), (20, 36)])
def test_a_cine_that_can_not_be_cut_evenly_is_refused(frames: int, pixels: int) -> None:
    for make in (lambda: CmrEncoder(SMALL, 3, frames, pixels, 2, 16), lambda: TinyCmrEncoder(SMALL, 3, frames, pixels)):
        with pytest.raises(ValueError, match=f"{frames} frames of {pixels} pixels can't be cut"):
            make()


# Tokens.


def test_ecg_patches_are_100_ms_each_slot_by_slot() -> None:
    x = torch.randn(2, 12, 2500)
    by_lead = EcgEncoder(SMALL, "lead_time").patches(x)
    of_all = EcgEncoder(SMALL, "time").patches(x)
    for slot in (0, 7, 49):
        piece = x[:, :, 50 * slot : 50 * (slot + 1)]
        assert torch.equal(by_lead[:, 12 * slot : 12 * (slot + 1)], piece)
        assert torch.equal(of_all[:, slot], piece.flatten(1))


def test_cine_patches_put_together_are_the_cine() -> None:
    x, encoder = torch.randn(2, *SHAPE), vit()
    patches, rebuilt, n = encoder.patches(x), torch.full((2, *SHAPE), torch.nan), 0
    for slot in range(10):
        for s in range(SLICES):
            for row in range(0, PIXELS, PATCH):
                for column in range(0, PIXELS, PATCH):
                    piece = patches[:, n].view(2, TUBELET, PATCH, PATCH)
                    rebuilt[:, s, 2 * slot : 2 * slot + 2, row : row + PATCH, column : column + PATCH] = piece
                    n += 1
    assert n == encoder.length and torch.equal(rebuilt, x)


def test_a_view_of_a_larger_cine_gives_the_same_patches_as_its_copy() -> None:
    large = torch.randn(2, SLICES, PIXELS, FRAMES, PIXELS).transpose(2, 3)
    assert torch.equal(vit().patches(large), vit().patches(large.contiguous()))


@pytest.mark.parametrize("slot", [0, 4, 9])
def test_tokens_of_a_cine_depend_on_the_frames_of_their_slot_only(slot: int) -> None:
    x, encoder = torch.randn(2, *SHAPE), vit()
    other = x.clone()
    other[:, :, 2 * slot : 2 * slot + 2] += 1
    changed = (encoder.tokens(other) != encoder.tokens(x)).any(-1).view(2, 10, -1)
    assert changed[:, slot].all()
    assert changed.sum() == 2 * encoder.per_slot


def test_a_lead_time_token_depends_on_its_lead_and_100_ms_only() -> None:
    x, encoder = torch.randn(1, 12, 2500), EcgEncoder(SMALL, "lead_time")
    other = x.clone()
    other[:, 3, 350:400] += 1
    changed = (encoder.tokens(other) != encoder.tokens(x)).any(-1)
    assert changed.nonzero().tolist() == [[0, 7 * 12 + 3]]


@pytest.mark.parametrize("slot", [2, 25, 47])
def test_a_time_token_reads_a_window_centred_on_its_slot(slot: int) -> None:
    """240 ms around the 100 ms: 35 samples more on either side."""
    x = torch.randn(1, 12, 2500, requires_grad=True)
    EcgEncoder(SMALL, "time").tokens(x)[0, slot].square().sum().backward()
    touched = x.grad[0].abs().sum(0).nonzero()[:, 0]
    assert (touched[0].item(), touched[-1].item()) == (50 * slot - 35, 50 * slot + 84)


@each_encoder
def test_what_is_pooled_into_a_slot_are_the_tokens_of_its_own_time(make: type) -> None:
    """Without the transformer, which mixes them; the `time` stem overlaps the neighbouring slots."""
    encoder, shape = make()
    encoder.transformer = nn.Identity()
    x = torch.randn(2, *shape)
    other, slot, reach = x.clone(), encoder.slots // 2, 0
    if len(shape) == 2:
        reach = 1 if encoder.kind == "time" else 0
        other[:, :, 50 * slot : 50 * (slot + 1)] += 1
    else:
        other[:, :, TUBELET * slot : TUBELET * (slot + 1)] += 1
    changed = (encoder(other) != encoder(x)).any(-1)
    assert changed.tolist() == [[abs(s - slot) <= reach for s in range(encoder.slots)]] * 2


@each_encoder
def test_every_slot_sees_the_whole_recording(make: type) -> None:
    encoder, shape = make()
    x = torch.randn(1, *shape, requires_grad=True)
    encoder(x)[0, 0].square().sum().backward()
    assert (x.grad != 0).double().mean() > 0.9


# Positions.


@each_encoder
def test_positions_have_amplitude_1_and_differ_from_token_to_token(make: type) -> None:
    """Sine and cosine of the same angle: their squares sum to 1."""
    position = make()[0].position.detach()
    torch.testing.assert_close(position.square().sum(-1), torch.full((len(position),), position.shape[-1] / 2))
    assert position.abs().max() > 0.99
    assert torch.pdist(position).min() > 0.05


@each_encoder
def test_a_token_is_its_embedding_and_its_whole_position(make: type) -> None:
    """With a stem that says nothing, and without the transformer, the position is left."""
    encoder, shape = make()
    encoder.transformer = nn.Identity()
    for p in encoder.stem.parameters():
        nn.init.zeros_(p)
    expected = encoder.position.view(encoder.slots, -1, encoder.dim).mean(1)
    torch.testing.assert_close(encoder(torch.randn(1, *shape))[0], expected)


def test_sinusoids_are_sines_and_cosines_of_falling_frequency() -> None:
    found = sinusoids(torch.tensor([0.0, 2.0]), 6)
    frequency = torch.tensor([1.0, 0.1, 0.01])
    torch.testing.assert_close(found[0], torch.tensor([0.0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(found[1], torch.cat([(2 * frequency).sin(), (2 * frequency).cos()]))


def test_every_axis_of_a_grid_has_its_own_part_of_the_embedding() -> None:
    a, b = torch.arange(3), torch.arange(4)
    grid = grid_sinusoids([a, b], 16)
    assert grid.shape == (3, 4, 16)
    for i in range(3):
        for j in range(4):
            torch.testing.assert_close(grid[i, j], torch.cat([sinusoids(a, 8)[i], sinusoids(b, 8)[j]]))
    with pytest.raises(ValueError, match="a width of 20 can't be shared by 3 axes"):
        grid_sinusoids([a, a, a], 20)


# The number of slices.


def test_weights_do_not_depend_on_the_number_of_slices() -> None:
    three, eleven = vit(3), vit(11)
    eleven.load_state_dict(three.state_dict())
    x = torch.randn(2, 11, FRAMES, PIXELS, PIXELS)
    assert eleven(x).shape == (2, 10, 32)
    assert sum(p.numel() for p in three.parameters()) == sum(p.numel() for p in eleven.parameters())


def test_slices_lie_at_the_same_places_of_the_stack_whatever_their_number() -> None:
    """The middle slice of three and of eleven is the middle of the heart, and has the same position."""
    three, eleven = vit(3), vit(11)
    middle = [e.position.view(10, -1, 2, 2, 32)[:, e.shape[0] // 2] for e in (three, eleven)]
    torch.testing.assert_close(*middle)
    outer = [e.position.view(10, -1, 2, 2, 32)[:, 0] for e in (three, eleven)]
    assert (outer[0] - outer[1]).norm(dim=-1).min() > 0.1


# Subsets of tubelets.


@given(
    slices=st.integers(1, 4),
    tubelet=st.sampled_from([2, 4, 5]),
    drop=st.floats(0, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_random_subset_holds_equally_many_of_each_slot_never_twice_and_in_order(
    slices: int, tubelet: int, drop: float, seed: int
) -> None:
    encoder = CmrEncoder(Size(8, 1, 1), slices, 20, 32, tubelet, 16)
    noise = torch.rand(3, encoder.length, generator=torch.Generator().manual_seed(seed))
    keep = encoder.random_subset(noise, drop)
    stay = max(1, round(encoder.per_slot * (1 - drop)))
    assert keep.shape == (3, encoder.slots * stay)
    slot = keep // encoder.per_slot
    assert torch.equal(slot, torch.arange(encoder.slots).repeat_interleave(stay).expand(3, -1))
    assert all(len(set(row)) == len(row) for row in keep.tolist())


def test_a_random_subset_keeps_the_smallest_of_each_slot_and_differs_between_patients() -> None:
    encoder = vit()
    noise = torch.rand(2, encoder.length)
    keep = encoder.random_subset(noise, 0.75)
    for patient in range(2):
        kept = torch.zeros(encoder.length, dtype=torch.bool)
        kept[keep[patient]] = True
        for slot in range(10):
            at = slice(slot * 12, (slot + 1) * 12)
            assert kept[at].sum() == 3
            assert noise[patient, at][kept[at]].max() < noise[patient, at][~kept[at]].min()
    assert not torch.equal(keep[0], keep[1])


def test_keeping_all_tubelets_equals_dropping_none() -> None:
    x, encoder = torch.randn(2, *SHAPE), vit(size=Size(32, 2, 4))
    whole = encoder(x)
    everything = torch.arange(encoder.length).expand(2, -1)
    assert close(encoder(x, everything), whole)
    assert close(encoder(x, encoder.random_subset(torch.rand(2, encoder.length), 0.0)), whole)


def test_dropping_tubelets_equals_running_the_encoder_on_the_others_alone() -> None:
    x, encoder = torch.randn(2, *SHAPE), vit(size=Size(32, 2, 4))
    keep = encoder.random_subset(torch.rand(2, encoder.length), 0.75)
    found = encoder(x, keep)
    patches = encoder.patches(x)
    for patient in range(2):
        tokens = [encoder.stem(patches[patient, i]) + encoder.position[i] for i in keep[patient].tolist()]
        encoded = encoder.transformer(torch.stack(tokens)[None])[0]
        for slot in range(10):
            assert close(found[patient, slot], encoded[3 * slot : 3 * slot + 3].mean(0))


def test_the_chosen_tubelets_may_be_given_instead_of_the_cine() -> None:
    x, encoder = torch.randn(2, *SHAPE), vit()
    keep = encoder.random_subset(torch.rand(2, encoder.length), 0.75)
    chosen = pick(encoder.patches(x), keep)
    for patient in range(2):
        assert torch.equal(chosen[patient], encoder.patches(x)[patient, keep[patient]])
    assert torch.equal(encoder(chosen, keep), encoder(x, keep))


def test_dropped_tubelets_have_no_influence() -> None:
    x, encoder = torch.randn(2, *SHAPE, requires_grad=True), vit()
    keep = encoder.random_subset(torch.rand(2, encoder.length), 0.75)
    encoder(x, keep).square().sum().backward()
    seen = (encoder.patches(x.grad) != 0).any(-1)
    assert torch.equal(seen, torch.zeros_like(seen).scatter(1, keep, True))


# Numbers.


def test_attention_equals_its_definition() -> None:
    x, block = torch.randn(2, 5, 8), Transformer(Size(8, 1, 2)).blocks[0]
    q, k, v = block.qkv(block.norm1(x)).split(8, dim=-1)
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        share = torch.softmax(q[..., h] @ k[..., h].transpose(1, 2) / 4**0.5, dim=-1)
        heads.append(share @ v[..., h])
    middle = x + block.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(block(x), middle + block.mlp(block.norm2(middle)), rtol=1e-4, atol=1e-5)


@each_encoder
@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
def test_flat_and_huge_recordings_give_finite_embeddings_and_gradients(make: type, value: float) -> None:
    encoder, shape = make()
    x = torch.full((1, *shape), value, requires_grad=True)
    slots = encoder(x)
    slots.square().sum().backward()
    assert slots.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@each_encoder
def test_recordings_of_a_batch_do_not_meet(make: type) -> None:
    encoder, shape = make()
    x = torch.randn(3, *shape)
    with torch.no_grad():
        assert close(encoder(x)[1:2], encoder(x[1:2]))


@each_encoder
def test_the_whole_forward_pass_is_one_graph_and_gives_the_eager_result(make: type) -> None:
    encoder, shape = make()
    x = torch.randn(2, *shape)
    compiled = torch.compile(encoder, fullgraph=True, backend="eager", dynamic=False)
    with torch.no_grad():
        assert close(compiled(x), encoder(x))


def test_dropping_tubelets_is_one_graph_too() -> None:
    encoder = vit()
    x, keep = torch.randn(2, *SHAPE), encoder.random_subset(torch.rand(2, encoder.length), 0.75)
    compiled = torch.compile(encoder, fullgraph=True, backend="eager", dynamic=False)
    with torch.no_grad():
        assert close(compiled(x, keep), encoder(x, keep))
