"""Every way in which a cine can be odd or damaged, and what must become of it."""

import zipfile

import numpy as np
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from tests.faults.cine_changes import (
    _cut,
    _replace_position,
    announces,
    counted_on,
    cut_rows,
    damaged,
    deflated_bomb,
    drawn_repeat,
    early_private_block,
    encrypted,
    enhanced_colours,
    enhanced_per_slice,
    every,
    high_bits,
    in_folder,
    lying_size,
    mirrored,
    moved,
    negative,
    no_preamble,
    of_23_frames,
    one_enhanced_file,
    overlaid_in,
    packed,
    padded_tail,
    repeat_in_series,
    shifted_trigger,
    signed,
    sixty_untimed,
    turned,
    turned_in_plane,
    undefined_length,
    with_contrast_lost,
)
from tests.faults.cine_files import (
    FRAMES,
    _bytes,
    and_more,
    both,
    copies,
    darker,
    edited,
    images,
    place,
    sets,
    sound_files,
    synthetic,
    with_bytes,
    with_tags,
    without,
    zip_of,
)
from tests.faults.fault import Fault
from tests.faults.nifti_files import (
    huge,
    nifti,
    no_position,
    no_voxel_size,
    reoriented,
    sheared,
    with_nan,
)

NO_TIMING = frozenset({"no_timing"})
INTERPOLATED = frozenset({"frames_interpolated"})
REPEATED = frozenset({"repeated_slice"})
FAULTS: dict[str, Fault] = {
    "cine": Fault("a sound zip, members shuffled, a manifest whose date holds commas", synthetic()),
    "manifest.csv": Fault("the other spelling of the manifest's name", synthetic("manifest_csv")),
    "no manifest": Fault("images only", without(lambda: [n for n in sound_files() if not n.endswith(".dcm")])),
    "manifest with another content": Fault("a binary file of that name", zip_of(lambda f: f | {"manifest.cvs": bytes(range(256))})),
    "no suffix": Fault("members without `.dcm`", zip_of(lambda f: {n.removesuffix(".dcm"): d for n, d in f.items()})),
    "folders inside": Fault("members in sub-folders", zip_of(lambda f: {f"a/b{i % 3}/{n}": d for i, (n, d) in enumerate(f.items())})),
    "paths that climb": Fault("`../../` in names: nothing is written anywhere", zip_of(lambda f: {f"../../{n}": d for n, d in f.items()})),
    "a folder": Fault("files in folders instead of a zip", in_folder),
    "InlineVF series": Fault("the scanner's result besides", synthetic("inlinevf_series"), flags=frozenset({"inlinevf_series"})),
    "result under a cine's name": Fault(
        "contours drawn (group 6000) in a later repeat of slice 3: the earlier counts",
        drawn_repeat(0x6000, None), flags=REPEATED,
    ),
    **{
        f"result under a cine's name, {name}": Fault(f"the same, {what}", drawn_repeat(group, syntax), flags=REPEATED)
        for name, what, group, syntax in (
            ("implicit VR", "in another transfer syntax", 0x6000, ImplicitVRLittleEndian),
            ("deflated", "in another transfer syntax", 0x6000, DeflatedExplicitVRLittleEndian),
            ("group 601E", "in the last of the overlay groups", 0x601E, None),
        )
    },
    "results only": Fault("contours drawn in every image", with_tags(images, overlaid_in(0x6000)), "no_cine_series"),
    "derived images": Fault(
        "DERIVED images without trigger time", and_more(copies(2, both(darker, sets(ImageType=["DERIVED", "SECONDARY"], SeriesInstanceUID="1.2.9", TriggerTime=""))))
    ),
    "another series besides": Fault(
        "a long-axis series in the zip", and_more(copies(2, both(turned, sets(SeriesInstanceUID="1.2.9", SeriesDescription="CINE_segmented_LAX_2Ch"))))
    ),
    "description in capitals": Fault("`CINE_SEGMENTED_SAX_B1`", with_tags(images, lambda d: setattr(d, "SeriesDescription", d.SeriesDescription.upper()))),
    "unsplit series": Fault("all slices in one series", with_tags(images, sets(SeriesDescription="CINE_segmented_SAX", SeriesInstanceUID="1.2.9"))),
    "numbers reversed": Fault(
        "series and instances counted backwards",
        with_tags(images, lambda d: sets(SeriesNumber=99 - d.SeriesNumber, InstanceNumber=21 - d.InstanceNumber)(d)),
    ),
    "repeat, broken off": Fault("a first attempt at slice 4 with 15 frames", synthetic("duplicate_series"), flags=REPEATED),
    "repeat, complete": Fault(
        "an earlier, darker acquisition of slice 2", and_more(copies(2, both(darker, sets(SeriesInstanceUID="1.2.9", AcquisitionTime="090000")))),
        flags=REPEATED,
    ),
    "repeat, damaged": Fault(
        "a later acquisition of slice 2 whose pixels are cut: the earlier counts",
        and_more(lambda f: {n: d[:-3000] for n, d in copies(2, sets(SeriesInstanceUID="1.2.9", AcquisitionTime="120000"))(f).items()}),
        flags=REPEATED,
    ),
    "repeat within a series": Fault(
        "instances 21 to 40 are an earlier acquisition's",
        and_more(copies(2, both(darker, repeat_in_series, sets(AcquisitionTime="090000")))), flags=REPEATED,
    ),
    "repeat within a series, broken off": Fault(
        "a later attempt at slice 2 of five frames", and_more(copies(2, counted_on(FRAMES, 0.97), range(1, 6))), flags=REPEATED
    ),
    "repeat within a series, broken off, same rate": Fault(
        "the same, at the same heart rate", and_more(copies(2, counted_on(FRAMES), range(1, 6))), flags=REPEATED
    ),
    "first attempt within a series": Fault(
        "five frames under instances before those of slice 2", and_more(copies(2, counted_on(-10, 0.97, "090000"), range(1, 6))), flags=REPEATED
    ),
    "repeat under the same numbers": Fault(
        "an earlier acquisition of slice 2 in its series", and_more(copies(2, counted_on(0, 0.97, "090000"))), flags=REPEATED
    ),
    "repeat under the same numbers and times": Fault(
        "the same, at the same heart rate", and_more(copies(2, counted_on(0, 1, "090000"))), flags=REPEATED
    ),
    "repeat, more frames": Fault("a later acquisition of slice 2 with 23 frames: the one with the stack's 20 counts", and_more(of_23_frames), flags=REPEATED),
    **{
        f"repeat, {distance} mm away": Fault(
            "an earlier acquisition of slice 3, displaced",
            and_more(copies(3, both(darker, moved(distance), sets(SeriesInstanceUID="1.2.9", AcquisitionTime="090000")))), flags=REPEATED,
        )
        for distance in (1.5, 3)
    },
    "repeat, other pixel spacing": Fault(
        "an earlier acquisition of slice 3 in its series with a field of view half the size",
        and_more(copies(3, both(sets(PixelSpacing=["1.3", "1.3"]), counted_on(FRAMES, 1, "090000")))), flags=REPEATED,
    ),
    "untimed series besides": Fault("60 later frames without trigger time at three slices", and_more(sixty_untimed), flags=REPEATED),
    "a second stack": Fault(
        "a whole stack planned at another angle before",
        and_more(lambda f: {f"c{n}": edited(f[n], both(darker, turned, sets(SeriesInstanceUID=f"1.0.{place(n)[0]}", AcquisitionTime="080000"))) for n in images()}),
        flags=frozenset({"other_orientation"}),
    ),
    "two orientations in a series": Fault("a tilted slice at the same corner as slice 3, in its series", and_more(copies(3, both(darker, turned)))),
    "numbers from mid-cycle": Fault(
        "instance 1 is taken in mid-cycle", with_tags(images, lambda d: setattr(d, "InstanceNumber", (d.InstanceNumber + 9) % FRAMES + 1))
    ),
    "instances from 21": Fault("a repeat's numbers, the first acquisition deleted", synthetic("instance_from_51")),
    "the same file twice": Fault("a frame under two names", and_more(lambda f: {"again.dcm": f[images(2)[3]]})),
    "a frame absent": Fault("19 of 20 frames", synthetic("frame_count"), flags=INTERPOLATED, tolerance=None),
    "the first frame absent": Fault("frame 1 of slice 3", without(lambda: images(3, range(1, 2))), flags=INTERPOLATED, tolerance=None),
    "a frame damaged": Fault("the checksum of one frame fails", lambda p: damaged(p, images(3, range(9, 10))), flags=INTERPOLATED, tolerance=None),
    "the first frame damaged": Fault("its checksum fails", lambda p: damaged(p, images(3, range(1, 2))), flags=INTERPOLATED, tolerance=None),
    "a frame absent everywhere": Fault("frame 7 of every slice", without(lambda: images(None, range(7, 8))), flags=INTERPOLATED, tolerance=None),
    "the first frame absent everywhere": Fault("frame 1 of every slice", without(lambda: images(None, range(1, 2))), flags=INTERPOLATED, tolerance=None),
    "the last frames absent everywhere": Fault(
        "frames 19 and 20 of every slice", without(lambda: images(None, range(19, 21))), flags=INTERPOLATED, tolerance=None
    ),
    "half the cycle absent": Fault("frames 11 to 20 of every slice", without(lambda: images(None, range(11, 21))), "incomplete_cycle"),
    "five frames absent": Fault("15 of 20 frames of one slice: five slices are left", without(lambda: images(3, every(4))), "too_few_slices"),
    "five frames damaged": Fault("their checksums fail", lambda p: damaged(p, images(3, every(4))), "too_few_slices"),
    "a slice absent": Fault("five slices", synthetic("missing_slice"), "too_few_slices"),
    "seven frames": Fault("frames too few for a cine", without(lambda: images(None, range(8, 21))), "no_cine_series"),
    "no trigger times": Fault("frames in the order of their numbers", with_tags(images, sets(TriggerTime=""))),
    "no timing at all": Fault("no trigger time, no RR", with_tags(images, sets(TriggerTime="", NominalInterval="")), flags=NO_TIMING),
    "trigger times all the same": Fault("600 ms: frames in the order of their numbers", with_tags(images, sets(TriggerTime="600"))),
    "trigger times rounded": Fault(
        "to 100 ms, so that pairs of frames share one", with_tags(images, lambda d: setattr(d, "TriggerTime", f"{100 * round(d.TriggerTime / 100)}"))
    ),
    "a trigger time absent": Fault("in frame 5 of every slice", with_tags(lambda: images(None, range(5, 6)), sets(TriggerTime=""))),
    "a trigger time absent, numbers reversed": Fault(
        "instances counted backwards besides",
        with_tags(images, lambda d: sets(InstanceNumber=21 - d.InstanceNumber, TriggerTime="" if d.InstanceNumber == 5 else d.TriggerTime)(d)),
    ),
    "a trigger time absurd": Fault("99,999 ms in frame 5 of slice 3", with_tags(lambda: images(3, range(5, 6)), sets(TriggerTime="99999"))),
    "a trigger time wrong": Fault("700 ms in frame 5 of slice 3", with_tags(lambda: images(3, range(5, 6)), sets(TriggerTime="700"))),
    "another RR interval": Fault("2,000 ms, of which the frames fill half", with_tags(images, sets(NominalInterval="2000")), flags=frozenset({"rr_disagrees"})),
    "late first frame": Fault("12 ms after the R wave: kept as phase, never turned away", with_tags(images, shifted_trigger)),
    "another matrix": Fault("slice 2 has eight rows less", with_tags(lambda: images(2), cut_rows), tolerance=None),
    "a tilted slice": Fault("slice 2 is not parallel", with_tags(lambda: images(2), turned), "too_few_slices"),
    "a slice turned in its plane": Fault("slice 3 by four degrees", with_tags(lambda: images(3), turned_in_plane(4)), "too_few_slices"),
    "mirrored": Fault("columns stored from the other side, as their axes say", with_tags(images, mirrored)),
    "jitter in position": Fault(
        "0.2 mm between frames of a slice",
        with_tags(lambda: images(2, every(3)), lambda d: setattr(d, "ImagePositionPatient", [f"{float(x) + 0.2:.4f}" for x in d.ImagePositionPatient])),
    ),
    "implicit VR": Fault("another transfer syntax", with_tags(images, lambda d: None, ImplicitVRLittleEndian)),
    "big endian": Fault("another transfer syntax", with_tags(lambda: images(2), lambda d: None, ExplicitVRBigEndian)),
    "deflated": Fault("another transfer syntax", with_tags(lambda: images(2), lambda d: None, DeflatedExplicitVRLittleEndian)),
    "compressed": Fault("RLE-compressed pixels", with_tags(lambda: images(2), lambda d: d.compress(RLELossless))),
    "no preamble": Fault("a bare data set", with_bytes(lambda: images(2), no_preamble)),
    "long header": Fault("20 kB of private data before the geometry", with_tags(lambda: images(2), early_private_block)),
    "sequences of undefined length": Fault("nested, before the geometry", with_tags(lambda: images(2), undefined_length)),
    "padding after the pixels": Fault("a trailing element", with_bytes(lambda: images(2), padded_tail)),
    "signed pixels": Fault("PixelRepresentation 1", with_tags(lambda: images(2), signed)),
    "bits above the grey values": Fault("12 bits stored, others in the upper four", with_tags(images, high_bits)),
    "MONOCHROME1": Fault("negatives, which are turned back", with_tags(images, negative), tolerance=1),
    "rescaled pixels": Fault("slope 1, intercept 0 stated", with_tags(images, sets(RescaleSlope="1", RescaleIntercept="0"))),
    "multi-frame, one file": Fault("an enhanced object of all slices", one_enhanced_file),
    "multi-frame, a file per slice": Fault("six enhanced objects", enhanced_per_slice),
    "multi-frame, colours": Fault("three samples per pixel", enhanced_colours, "no_cine_series"),
    "position not a number": Fault(
        "`nan` in ImagePositionPatient", with_bytes(lambda: images(2), lambda d: _replace_position(d, b"nan")), "too_few_slices"
    ),
    "position absurd": Fault("10^9 mm", with_tags(lambda: images(2), sets(ImagePositionPatient=["1e9", "0", "0"])), "too_few_slices"),
    "pixel spacing zero": Fault("0 mm", with_tags(images, sets(PixelSpacing=["0", "0"])), "bad_geometry"),
    "field of view": Fault("3 m", with_tags(images, sets(PixelSpacing=["30", "30"])), "bad_geometry"),
    "oblique axes": Fault("row and column not at right angles", with_tags(images, sets(ImageOrientationPatient=["1", "0", "0", "0.7", "0.7", "0"])), "bad_geometry"),
    "matrix absurd": Fault("65,535 rows", with_tags(images, sets(Rows=65535)), "bad_geometry"),
    "pixels cut": Fault("the end of every file absent", with_bytes(images, lambda d: d[:-5000]), "truncated"),
    "header cut": Fault("every file ends within its header", with_bytes(images, lambda d: d[:700]), "truncated"),
    "one grey": Fault("every pixel the same", with_tags(images, with_contrast_lost), "no_contrast"),
    "long axis only": Fault("the wrong field's zip", with_tags(images, sets(SeriesDescription="CINE_segmented_LAX_2Ch")), "no_cine_series"),
    "zip, empty file": Fault("no byte", lambda p: _bytes(p, b""), "empty_file"),
    "zip, cut": Fault("a broken download", lambda p: _cut(p, 0.8), "truncated"),
    "zip, its last byte absent": Fault("a broken download", lambda p: _cut(p, 1), "truncated"),
    "zip, no members": Fault("an empty archive", zip_of(lambda f: {}), "empty_zip"),
    "zip, manifest only": Fault("an archive without images", zip_of(lambda f: {n: d for n, d in f.items() if not n.endswith(".dcm")}), "empty_zip"),
    "zip, text inside": Fault("notes named `.dcm`", zip_of(lambda f: {"a.dcm": b"a note", "b.dcm": b""}), "empty_zip"),
    "zip, not a zip": Fault("text under a zip's name", lambda p: _bytes(p, b"see mail of Monday"), "not_a_cine"),
    "zip, encrypted": Fault("members behind a password", encrypted, "unsupported_zip"),
    "zip, bzip2": Fault("members packed by another method", packed(zipfile.ZIP_BZIP2), "unsupported_zip"),
    "zip, LZMA": Fault("members packed by another method", packed(zipfile.ZIP_LZMA), "unsupported_zip"),
    "deflated bomb": Fault("a DICOM file that unpacks to a thousand times its size", deflated_bomb, "too_large"),
    "zip bomb, lying": Fault("members that unpack to more than they say", lying_size, "truncated"),
    "zip bomb, honest": Fault("20 GiB announced", announces(2**30, 20), "too_large"),
    "zip, too many members": Fault("20,001 files", announces(1, 20_001), "too_large"),
    "NIfTI": Fault("a 4D image, axes as the usual converters leave them", nifti(), tolerance=0),
    **{f"NIfTI, {codes}": Fault(f"axes in the order {codes}", nifti(reoriented(codes))) for codes in ("LPS", "LAS", "RAS", "RPS", "SPL", "SRA", "IAL", "PSR")},
    "NIfTI, milliseconds": Fault("frame time 40 ms", nifti(frame_time=40, unit="msec")),
    "NIfTI, no unit": Fault("frame time 0.04, unit not stated", nifti(unit="unknown")),
    "NIfTI, no frame time": Fault("frame time 0", nifti(frame_time=0), flags=NO_TIMING),
    "NIfTI, five axes": Fault("time as the fifth axis, its step not stated", nifti(lambda d, a: (d[:, :, :, None], a)), flags=NO_TIMING),
    "NIfTI, one volume": Fault("three axes", nifti(lambda d, a: (d[..., 0], a)), "not_a_cine"),
    "NIfTI, NaN": Fault("a value that is no number", nifti(with_nan), "bad_values"),
    "NIfTI, sheared": Fault("an affine with oblique axes", nifti(sheared), "bad_geometry"),
    "NIfTI, no size": Fault("an affine of zeros", no_voxel_size, "bad_geometry"),
    "NIfTI, no position": Fault("neither sform nor qform", no_position, "bad_geometry"),
    "NIfTI, field of view": Fault("1.4 m", nifti(lambda d, a: (d, a @ np.diag([5, 5, 1, 1]))), "bad_geometry"),
    "NIfTI, cut": Fault("half a file", nifti(cut=0.5), "truncated"),
    "NIfTI, no image": Fault("text under its name", lambda p: _bytes(p, b"see mail of Monday, all of it", "x.nii"), "bad_header"),
    "NIfTI, absurd size": Fault("10^13 values announced", huge, "too_large"),
}  # fmt: skip
