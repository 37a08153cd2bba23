"""A cine zip as a Siemens scanner leaves it: some 117 top-level elements, sequences, two private blocks of 92 kB."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ptacl.synthetic.heart_files import write_heart_files
from ptacl.synthetic.latents import draw_subject

_CSA_BYTES = (11_560, 80_248)
_ZIP_TIME = (2019, 3, 7, 10, 12, 30)
# What such headers hold besides what the synthetic cohort writes; values have the usual lengths and mean nothing.
_TEXTS = {
    "SpecificCharacterSet": "ISO_IR 100", "InstanceCreationDate": "20190307", "InstanceCreationTime": "101231.515000",
    "SeriesDate": "20190307", "AcquisitionDate": "20190307", "ContentDate": "20190307", "SeriesTime": "101231.406000",
    "ContentTime": "101231.515000", "AccessionNumber": "", "ReferringPhysicianName": "", "StationName": "AWP45",
    "ProtocolName": "CINE_segmented_SAX", "PatientBirthDate": "", "PatientWeight": "75", "BodyPartExamined": "HEART",
    "ScanOptions": "CT\\RG", "SequenceName": "*tfi2d1_11", "AngioFlag": "N", "MagneticFieldStrength": "1.5",
    "EchoTime": "1.16", "NumberOfAverages": "1", "ImagingFrequency": "63.679", "ImagedNucleus": "1H", "EchoNumbers": "1",
    "SpacingBetweenSlices": "10", "NumberOfPhaseEncodingSteps": "144", "EchoTrainLength": "1", "PercentSampling": "78",
    "PercentPhaseFieldOfView": "81.7", "PixelBandwidth": "930", "DeviceSerialNumber": "0", "SoftwareVersions": "syngo MR",
    "BeatRejectionFlag": "N", "LowRRValue": "0", "HighRRValue": "0", "IntervalsAcquired": "8", "HeartRate": "61",
    "ReceiveCoilName": "BO1,2;SP2,3", "TransmitCoilName": "Body", "AcquisitionMatrix": [0, 208, 144, 0],
    "InPlanePhaseEncodingDirection": "ROW", "FlipAngle": "80", "VariableFlipAngleFlag": "N", "SAR": "1.58",
    "dBdt": "0", "StudyID": "1", "AcquisitionNumber": "1", "PositionReferenceIndicator": "", "WindowCenter": "220",
    "WindowWidth": "480", "RequestingPhysician": "",
    "RequestedProcedureDescription": "HEART", "PerformedProcedureStepStartDate": "20190307",
    "PerformedProcedureStepStartTime": "100000.000000", "PerformedProcedureStepID": "MR2019", "StudyDescription": "HEART",
    "WindowCenterWidthExplanation": "Algo1", "InstitutionName": "SYNTHETIC", "Laterality": "", "StudyTime": "100000",
    "PerformedProcedureStepDescription": "HEART", "RequestedProcedureID": "1", "ImageComments": "",
}  # fmt: skip


def realistic_zip(folder: Path) -> Path:
    """Writes a full-size zip of 11 x 50 frames into `folder`, with realistic headers; its long-axis zip beside it."""
    eid = "9000001"
    write_heart_files(
        draw_subject(2026, 0), eid=eid, instance=2, rng=np.random.default_rng(0), size="full", folder=folder,
        faults=frozenset(), long_axis=True,
    )  # fmt: skip
    path = folder / f"{eid}_20209_2_0.zip"
    rng = np.random.default_rng(1)
    with zipfile.ZipFile(path) as plain:
        files = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in files.items():
            if name.endswith(".dcm"):
                data = _dressed(data, rng)
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data, zipfile.ZIP_DEFLATED, 6)
    return path


def _dressed(data: bytes, rng: np.random.Generator) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in _TEXTS.items():
        setattr(dataset, keyword, value)
    dataset.ReferencedImageSequence = Sequence([_reference(k) for k in range(3)])
    dataset.ReferencedPerformedProcedureStepSequence = Sequence([_reference(0)])
    for k in range(12):
        dataset.add_new((0x0051, 0x1008 + k), "LO", f"value of element {k}")
    for element, size in zip((0x1010, 0x1020), _CSA_BYTES, strict=True):
        dataset[0x0029, element].value = _private_block(size, rng)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def _reference(k: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    item.ReferencedSOPInstanceUID = f"1.2.826.0.1.3680043.10.99999.7.{k}"
    return item


def _private_block(size: int, rng: np.random.Generator) -> bytes:
    """Names, zeros and short numbers, as in the scanner's parameter dumps: packs to about a tenth."""
    entries = np.zeros((size // 84 + 1, 84), np.uint8)
    entries[:, :12] = np.frombuffer(b"ParameterXYZ", np.uint8)
    entries[:, 64:70] = rng.integers(48, 58, (len(entries), 6))
    return entries.tobytes()[:size]
