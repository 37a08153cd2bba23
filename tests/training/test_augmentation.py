"""Crops and augmentation change what they should, carry R peaks and phases along, and leave the rest alone."""

import pytest
import torch
from torch import Tensor

from ptacl.store.dataset import MV_PER_COUNT, STRIP
from ptacl.store.timing import Timing
from ptacl.training.augment import (
    CROP,
    MIDDLE,
    WINDOWS,
    Augmentation,
    augment_cine,
    augment_ecg,
    cine_input,
    crop,
    middle_crop,
    random_crop,
)
from ptacl.training.dice import Dice, Part

PATIENTS, SCALE_MV = 8, 0.5
CPU = torch.device("cpu")


def dice(step: int = 0, part: Part = Part()) -> Dice:
    return Dice(CPU, part).of_step(0, step)


def timing() -> Timing:
    """Regular beats of another rate in each patient, the cine's first frame at another phase."""
    rr = torch.linspace(350, 500, PATIENTS)
    peaks = 60.0 + rr[:, None] * torch.arange(15)
    return Timing(
        r_peaks=peaks.where(peaks < STRIP, torch.nan),
        phase_0=torch.linspace(0, 0.2, PATIENTS),
        usable=torch.ones(PATIENTS, dtype=torch.bool),
        t_end=0.4 * rr,
        es_phase=torch.full((PATIENTS,), 0.4),
    )


def strips(of: Timing) -> Tensor:
    """Two humps a beat in all leads: one at the R peak, a smaller one at the end of the T wave."""
    t = torch.arange(STRIP)
    strip = torch.zeros(PATIENTS, STRIP)
    for start, height in ((0.0, 2000), (of.t_end[:, None], 1000)):
        hump = torch.exp(-0.5 * ((t - (of.r_peaks + start)[..., None]) / 12) ** 2)
        strip += height * hump.nan_to_num().sum(1)
    return strip.round().to(torch.int16)[:, None].repeat(1, 12, 1)


def highest_near(x: Tensor, place: float) -> float:
    """The place of the highest sample within 25 samples, to a fraction of a sample (parabola)."""
    first = round(place) - 25
    i = int(x[first : first + 51].argmax()) + first
    a, b, c = (float(x[j]) for j in (i - 1, i, i + 1))
    return i + 0.5 * (a - c) / (a - 2 * b + c)


@pytest.mark.parametrize("stretch", [0.0, 0.15])
def test_r_peaks_and_t_wave_ends_go_along_with_a_random_crop(stretch: float) -> None:
    before = timing()
    strip = strips(before)
    x, after = random_crop(strip, before, SCALE_MV, Augmentation(ecg_stretch=stretch), dice())
    assert x.shape == (PATIENTS, 12, CROP) and x.dtype == torch.float32
    found = 0
    for i in range(PATIENTS):
        for peak in after.r_peaks[i].tolist():
            for place, height in ((peak, 2000), (peak + after.t_end[i].item(), 1000)):
                if 30 < place < CROP - 30:
                    assert highest_near(x[i, 0], place) == pytest.approx(place, abs=0.5)
                    assert x[i, :, round(place)] == pytest.approx(height * MV_PER_COUNT / SCALE_MV, rel=0.03)
                    found += 1
    assert found > 60
    rr = after.r_peaks.diff(dim=1)[:, 0] / before.r_peaks.diff(dim=1)[:, 0]
    assert torch.allclose(after.t_end / before.t_end, rr)
    if stretch:
        assert len(rr.unique()) == PATIENTS and ((1 / rr - 1).abs() <= stretch).all()
    else:
        assert torch.allclose(rr, torch.ones(PATIENTS))


def test_a_stretched_crop_stays_within_the_strip_and_runs_evenly() -> None:
    """A ramp tells for each sample of the crop where in the strip it was taken."""
    ramp = torch.arange(STRIP, dtype=torch.int16).expand(500, 12, -1)
    of = Timing(*(torch.zeros(500, n).squeeze(-1) for n in (2, 1, 1, 1, 1)))
    x, _ = random_crop(ramp, of, MV_PER_COUNT, Augmentation(ecg_stretch=0.2), dice())
    speed = x.diff(dim=2)
    assert torch.allclose(speed, speed[..., :1].expand_as(speed), atol=2e-3)
    assert speed.min() >= 0.799 and speed.max() <= 1.201 and speed.max() - speed.min() > 0.35
    assert x.min() >= 0 and x.max() <= STRIP - 1
    assert x[..., 0].max() > 2000  # crops begin anywhere


def test_a_crop_without_stretch_is_a_piece_of_the_strip() -> None:
    before = timing()
    strip = strips(before)
    for start in (0, 137, *WINDOWS):
        x, after = crop(strip, before, torch.full((PATIENTS,), start), SCALE_MV)
        assert torch.equal(x, strip[:, :, start : start + CROP].float() * (MV_PER_COUNT / SCALE_MV))
        assert torch.equal(after.r_peaks.nan_to_num(), (before.r_peaks - start).nan_to_num())
    x, after = middle_crop(strip, before, SCALE_MV)
    assert torch.equal(x, strip[:, :, MIDDLE : STRIP - MIDDLE].float() * (MV_PER_COUNT / SCALE_MV))


def test_crops_begin_at_every_sample_that_leaves_room() -> None:
    ramp = torch.arange(STRIP, dtype=torch.int16).expand(20_000, 1, -1)
    of = Timing(*(torch.zeros(20_000, n).squeeze(-1) for n in (2, 1, 1, 1, 1)))
    first = random_crop(ramp, of, MV_PER_COUNT, Augmentation(), dice())[0][:, 0, 0].round()
    assert first.min() == 0 and first.max() == STRIP - CROP


def test_a_cine_that_begins_at_another_frame_keeps_the_phase_of_every_frame() -> None:
    """Each frame's brightness is its phase, in steps of a 64th of the cycle."""
    frames, steps = 16, 4
    before = timing().changed(phase_0=torch.arange(PATIENTS) / 64)
    brightness = torch.arange(frames) * steps + torch.arange(PATIENTS)[:, None]
    cine = brightness.to(torch.uint8)[:, None, :, None, None].expand(-1, 2, -1, 8, 8)
    x, after = augment_cine(cine, before, Augmentation(cine_roll=True), dice())
    shown = (x[:, :, :, 0, 0] + 0.5) * 128 / 64  # the phase that the brightness tells
    told = (torch.arange(frames) / frames + after.phase_0[:, None]) % 1
    assert torch.allclose(shown % 1, told[:, None].expand_as(shown), atol=1e-6)
    assert len((after.phase_0 - before.phase_0).unique()) > 3
    # Where systole ends is a phase of the cycle, wherever the cine begins.
    assert torch.equal(after.es_phase, before.es_phase)


def test_a_shift_moves_all_frames_and_slices_of_a_cine_together() -> None:
    cine = torch.zeros(32, 2, 4, 16, 16, dtype=torch.uint8)
    cine[..., 8, 8] = 255
    of = Timing(*(torch.zeros(32) for _ in range(5)))
    moved, after = augment_cine(cine, of, Augmentation(cine_shift=2), dice())
    place = moved.flatten(-2).argmax(-1)
    assert (place == place[:, :1, :1]).all()
    row, column = place[:, 0, 0] // 16 - 8, place[:, 0, 0] % 16 - 8
    assert sorted(row.unique().tolist()) == sorted(column.unique().tolist()) == [-2, -1, 0, 1, 2]
    assert after is of


def test_a_shift_goes_on_with_the_outermost_pixels() -> None:
    columns = (10 * torch.arange(16)).to(torch.uint8).expand(32, 1, 2, 16, 16)
    of = Timing(*(torch.zeros(32) for _ in range(5)))
    moved = ((augment_cine(columns, of, Augmentation(cine_shift=3), dice())[0] + 0.5) * 128).round()
    shift = (moved[:, 0, 0, 8, 8] / 10 - 8).long()
    expected = 10 * (torch.arange(16) + shift[:, None]).clamp(0, 15)
    assert torch.equal(moved, expected[:, None, None, None].expand_as(moved).float())
    assert len(shift.unique()) == 7


def test_gain_and_offset_are_the_same_for_all_pixels_of_a_cine() -> None:
    cine = torch.arange(256).to(torch.uint8).view(1, 1, 1, 16, 16).expand(400, 2, 3, 16, 16)
    of = Timing(*(torch.zeros(400) for _ in range(5)))
    x, plain = augment_cine(cine, of, Augmentation(cine_gain=0.1, cine_offset=0.2), dice())[0], cine_input(cine)
    gain = (x[..., -1, -1] - x[..., 0, 0]) / (plain[..., -1, -1] - plain[..., 0, 0])
    offset = x[..., 0, 0] - gain * plain[..., 0, 0]
    assert torch.allclose(x, gain[..., None, None] * plain + offset[..., None, None], atol=1e-5)
    assert (gain == gain[:, :1, :1]).all() or torch.allclose(gain, gain[:, :1, :1].expand_as(gain), atol=1e-6)
    assert gain[:, 0, 0].std() == pytest.approx(0.1, rel=0.15) and offset[:, 0, 0].std() == pytest.approx(0.2, rel=0.15)
    assert gain.mean() == pytest.approx(1, abs=0.02) and offset.mean() == pytest.approx(0, abs=0.04)


def test_gain_of_the_ecg_is_one_number_per_lead_and_moves_nothing_in_time() -> None:
    x = torch.linspace(-2, 2, CROP).repeat(400, 12, 1)
    louder = augment_ecg(x, SCALE_MV, Augmentation(ecg_gain=0.05), dice())
    gain = louder[..., -1] / x[..., -1]
    assert torch.allclose(louder, gain[..., None] * x, atol=1e-5)
    assert gain.std() == pytest.approx(0.05, rel=0.1) and gain.std(1).min() > 0.01


def test_noise_of_the_ecg_is_at_most_as_large_as_asked_for() -> None:
    """In mV, whatever the model's unit; another amount in every recording."""
    for scale_mv in (0.5, 1.0):
        noise = augment_ecg(torch.zeros(200, 12, CROP), scale_mv, Augmentation(ecg_noise_mv=0.02), dice()) * scale_mv
        sd = noise.flatten(1).std(1)
        assert sd.max() < 0.0201 and sd.min() < 0.002 and sd.mean() == pytest.approx(0.01, rel=0.15)
        # Independent from lead to lead and from sample to sample.
        assert abs(noise[0, 0] @ noise[0, 1]) < 0.1 * noise[0, 0].norm() * noise[0, 1].norm()
        assert abs(noise[0, 0, 1:] @ noise[0, 0, :-1]) < 0.1 * noise[0, 0].norm() ** 2


def test_with_every_option_at_zero_nothing_changes() -> None:
    of, nothing = timing(), Augmentation()
    x = torch.randn(PATIENTS, 12, CROP, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment_ecg(x, SCALE_MV, nothing, dice()), x)
    cine = torch.randint(0, 256, (PATIENTS, 2, 4, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    same, after = augment_cine(cine, of, nothing, dice())
    assert torch.equal(same, cine_input(cine)) and after is of


def test_pixels_become_numbers_around_zero() -> None:
    assert cine_input(torch.tensor([0, 64, 128, 255], dtype=torch.uint8)).tolist() == [-0.5, 0.0, 0.5, 255 / 128 - 0.5]


EVERYTHING = Augmentation(0.02, 0.03, 0.1, 2, 0.1, 0.1, True)


def augmented(part: Part, step: int = 0) -> list[Tensor]:
    """All that augmentation makes of a process's part of a batch."""
    of = Timing(**{f: part.cut(getattr(timing(), f)) for f in Timing.__dataclass_fields__})
    generator = torch.Generator().manual_seed(0)
    cine = part.cut(torch.randint(0, 256, (PATIENTS, 2, 4, 8, 8), generator=generator).to(torch.uint8))
    roll = dice(step, part)
    x, of = random_crop(part.cut(strips(timing())), of, SCALE_MV, EVERYTHING, roll)
    frames, of = augment_cine(cine, of, EVERYTHING, roll)
    return [augment_ecg(x, SCALE_MV, EVERYTHING, roll), frames, of.r_peaks.nan_to_num(), of.phase_0, of.t_end]


def test_two_processes_draw_together_what_one_draws() -> None:
    halves = zip(augmented(Part(0, 2)), augmented(Part(1, 2)), strict=True)
    for whole, parts in zip(augmented(Part()), halves, strict=True):
        assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("of", [2, 4])
def test_dice_give_every_process_its_part_of_the_joint_draw(of: int) -> None:
    whole = dice()
    joint = [whole.uniform(8, 3), whole.normal(8, 2, 2), whole.integers(10, 8), whole.joint(8, 5), whole.uniform(8)]
    drawn = []
    for rank in range(of):
        own = dice(part=Part(rank, of))
        n = 8 // of
        drawn.append([own.uniform(n, 3), own.normal(n, 2, 2), own.integers(10, n), own.joint(8, 5), own.uniform(n)])
    for i, x in enumerate(joint):
        parts = [d[i] for d in drawn]
        assert torch.equal(x, parts[-1] if i == 3 else torch.cat(parts))


def test_the_same_step_draws_the_same_and_another_step_something_else() -> None:
    for a, b in zip(augmented(Part()), augmented(Part()), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(augmented(Part()), augmented(Part(), step=1), strict=True):
        assert not torch.equal(a, b)


def test_steps_seeds_and_uses_have_nothing_to_do_with_each_other() -> None:
    keys = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 2, 0)]
    draws = torch.stack([Dice(CPU).of_step(*key).normal(4000) for key in keys])
    correlation = torch.corrcoef(draws) - torch.eye(len(keys))
    assert correlation.abs().max() < 0.06
