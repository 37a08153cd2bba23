"""Short-axis cine MRI: readers, phase order, heart centre, cropping, quality."""

from ptacl.cmr.readers import read_cine
from ptacl.cmr.record import Cine

__all__ = ["Cine", "read_cine"]
