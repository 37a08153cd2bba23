"""The masked autoencoder: what it sees, what it is scored on, and that it learns more than the mean beat."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ptacl.model.blocks import ECG_SIZES, Size
from ptacl.model.cmr import CmrEncoder
from ptacl.model.ecg import EcgEncoder
from ptacl.model.mae import MaskedAutoencoder
from ptacl.store.timing import Timing
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.trace import MS_PER_SAMPLE, simulate_trace
from ptacl.training.augment import Augmentation, middle_crop, random_crop
from ptacl.training.dice import Dice
from ptacl.training.optimizer import adamw, rate, set_rate
from tests.model.timings import timing

SIZE = Size(32, 1, 2)
ENCODERS: dict[str, Callable[[], EcgEncoder | CmrEncoder]] = {
    "ecg, time": lambda: EcgEncoder(SIZE, "time"),
    "ecg, lead_time": lambda: EcgEncoder(SIZE, "lead_time"),
    "cine": lambda: CmrEncoder(SIZE, 2, 20, 16, 2, 8),
}
each_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS.keys())


def shown_and_hidden(model: MaskedAutoencoder, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each token [B, L] is among the smallest of its row's noise; and the others."""
    rank = (noise[:, :, None] > noise[:, None]).sum(2)
    return rank < model.keep, rank >= model.keep


@each_encoder
@pytest.mark.parametrize("mask", [0.5, 0.9])
def test_it_is_scored_on_the_hidden_tokens_only(make: Callable, mask: float) -> None:
    model = MaskedAutoencoder(make(), mask)
    x, noise = torch.randn(3, *model.encoder.shape), torch.rand(3, model.length)
    loss, variance = model(x, noise)
    restored, mark = model.restore(x, noise)
    _, hidden = shown_and_hidden(model, noise)
    assert torch.equal(mark, hidden.float()) and restored.shape == (3, model.length, model.encoder.patches(x).shape[2])
    patches = model.encoder.patches(x)
    errors = [(restored[i, j] - patches[i, j]).square().mean() for i, j in hidden.nonzero().tolist()]
    assert loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)
    assert variance.item() == pytest.approx(patches[hidden].var(correction=0).item(), rel=1e-4)


@each_encoder
def test_what_it_says_of_shown_tokens_has_no_gradient(make: Callable) -> None:
    model, said = MaskedAutoencoder(make(), 0.5), []

    def listen(_: nn.Module, __: tuple, out: Tensor) -> None:
        out.retain_grad()
        said.append(out)

    model.output.register_forward_hook(listen)
    noise = torch.rand(2, model.length)
    model(torch.randn(2, *model.encoder.shape), noise)[0].backward()
    shown, hidden = shown_and_hidden(model, noise)
    gradient = said[0].grad
    assert gradient[shown].eq(0).all() and gradient[hidden].abs().amax(1).min() > 0


@each_encoder
def test_hidden_parts_do_not_reach_the_encoder(make: Callable) -> None:
    """Nor through the `time` stem, which overlaps the neighbouring 100 ms."""
    model = MaskedAutoencoder(make(), 0.5)
    x, noise = torch.randn(2, *model.encoder.shape, requires_grad=True), torch.rand(2, model.length)
    restored, _ = model.restore(x, noise)
    restored.square().sum().backward()
    shown, hidden = shown_and_hidden(model, noise)
    gradient = model.encoder.patches(x.grad)
    assert gradient[hidden].eq(0).all() and gradient[shown].abs().amax(1).min() > 0


@each_encoder
@pytest.mark.parametrize("mask", [0.5, 0.75, 0.9, 0.999])
def test_the_encoder_sees_as_many_tokens_as_the_mask_leaves_and_one_at_least(make: Callable, mask: float) -> None:
    model, lengths = MaskedAutoencoder(make(), mask), []
    model.encoder.transformer.register_forward_hook(lambda _, seen, __: lengths.append(seen[0].shape[1]))
    loss, _ = model(torch.randn(2, *model.encoder.shape), torch.rand(2, model.length))
    assert lengths == [max(1, round(model.length * (1 - mask)))]
    assert loss.isfinite()


@each_encoder
def test_all_weights_of_encoder_and_decoder_learn(make: Callable) -> None:
    model = MaskedAutoencoder(make(), 0.5)
    model(torch.randn(2, *model.encoder.shape), torch.rand(2, model.length))[0].backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_the_warm_start_has_the_names_and_shapes_of_a_bare_encoder() -> None:
    for make in ENCODERS.values():
        shapes = {k: v.shape for k, v in make().state_dict().items()}
        assert {k: v.shape for k, v in MaskedAutoencoder(make(), 0.5).encoder.state_dict().items()} == shapes


def waves(model: MaskedAutoencoder) -> Tensor:
    """Eight recordings in which every part follows from every other: one wave each, of two rates and eight sizes."""
    shape = model.encoder.shape
    time = torch.linspace(0, 1, shape[1])
    rate, size = (torch.arange(8) % 2 + 3)[:, None], torch.linspace(0.5, 2, 8)[:, None]
    wave = (size * torch.sin(2 * torch.pi * rate * time))[:, None]
    if len(shape) == 2:
        return wave * torch.linspace(0.5, 1.5, shape[0])[:, None]
    return wave[..., None, None] * torch.linspace(0.5, 1.5, shape[-1]).expand(shape)


@each_encoder
def test_it_learns_one_batch_by_heart(make: Callable) -> None:
    model = MaskedAutoencoder(make(), 0.5)
    x, noise = waves(model), torch.rand(8, model.length)
    optimizer, unexplained = torch.optim.AdamW(model.parameters(), lr=3e-3), torch.tensor(torch.inf)
    for _ in range(300):
        loss, variance = model(x, noise)
        unexplained = loss / variance
        if unexplained < 0.2:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert unexplained.item() < 0.2


# Against the mean beat.

SCALE_MV, SEED = 0.5, 1
# The mean beat: samples before and after the R peak, and where the next beat takes over.
BEFORE, AFTER, NEXT = 200, 400, 125
STEPS, BATCH, MASK = 1400, 8, 0.25
OPTIMIZER = {"lr": 6e-3, "weight_decay": 0.05}


def people(first: int, last: int) -> tuple[Tensor, Timing]:
    """Strips int16 [n, 12, 5000] of a synthetic cohort, with their true R peaks."""
    traces = [simulate_trace(draw_subject(SEED, i), np.random.default_rng([SEED, i])) for i in range(first, last)]
    strips = torch.from_numpy(np.stack([t.counts for t in traces]))
    return strips, timing(*[(t.r_ms / MS_PER_SAMPLE).tolist() for t in traces], dtype=torch.float32)


def mean_beat(strips: Tensor, r_peaks: Tensor) -> Tensor:
    """Mean [12, BEFORE + AFTER] over all whole beats of all people, in the model's unit."""
    beats = [
        strip[:, r - BEFORE : r + AFTER].double()
        for strip, peaks in zip(strips, r_peaks, strict=True)
        for r in peaks[peaks.isfinite()].round().int().tolist()
        if r >= BEFORE and r + AFTER <= strip.shape[1]
    ]
    return torch.stack(beats).mean(0).float() * (0.005 / SCALE_MV)


def laid_at_r_peaks(beat: Tensor, r_peaks: Tensor) -> Tensor:
    """Crops [n, 12, 2500] of nothing but this beat, at each of the R peaks (in samples of the crop)."""
    crops = torch.zeros(len(r_peaks), 12, 2500)
    for crop, peaks in zip(crops, r_peaks, strict=True):
        known = peaks[peaks.isfinite()].round().int().tolist()
        for r, following in zip(known, [*known[1:], 10_000], strict=True):
            a, b = max(r - BEFORE, 0), min(r + AFTER, following - NEXT, 2500)
            if a < b:  # a later beat overwrites the end of the one before it
                crop[:, a:b] = beat[:, a - r + BEFORE : b - r + BEFORE]
    return crops


def test_it_restores_held_out_beats_better_than_the_mean_beat_does() -> None:
    """The mean beat is told where the R peaks are, hidden ones too; of the hidden ones the autoencoder sees nothing.

    Measured: 34 % of the variance is left by the autoencoder, 39 % by the mean beat; with half of the tokens hidden it takes
    2,000 steps of 16 to reach it.
    """
    (strips, known), (others, truth) = people(0, 300), people(300, 400)
    model = MaskedAutoencoder(EcgEncoder(ECG_SIZES["tiny"], "time"), MASK)
    optimizer, dice = adamw(model, OPTIMIZER), Dice(torch.device("cpu"))
    for step in range(STEPS):
        dice.of_step(0, step)
        set_rate(optimizer, rate(step, STEPS, OPTIMIZER["lr"]))
        rows = dice.integers(len(strips), BATCH)
        x, _ = random_crop(strips[rows], known.of(rows), SCALE_MV, Augmentation(), dice)
        loss, _ = model(x, dice.uniform(BATCH, model.length))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    x, cropped = middle_crop(others, truth, SCALE_MV)
    noise = torch.rand(len(x), model.length)
    with torch.no_grad():
        by_model, variance = model(x, noise)
    guess = laid_at_r_peaks(mean_beat(strips, known.r_peaks), cropped.r_peaks)
    _, hidden = shown_and_hidden(model, noise)
    by_mean_beat = (model.encoder.patches(guess) - model.encoder.patches(x))[hidden].square().mean()
    assert by_mean_beat < 0.5 * variance  # the comparison is with something
    assert by_model < by_mean_beat
