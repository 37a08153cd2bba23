"""12-lead resting ECG: readers, cleaning, R peaks and cardiac phase, quality."""

from ptacl.ecg.readers import read_ecg
from ptacl.ecg.record import LEADS, EcgRecord

__all__ = ["LEADS", "EcgRecord", "read_ecg"]
