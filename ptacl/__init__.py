"""PTACL: learning about the heart's function from the ECG by pairing it with cardiac MRI."""

__version__ = "0.1.0"
