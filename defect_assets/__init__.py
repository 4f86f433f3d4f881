"""From a camera's images to a trusted defect detector: versioned, traceable, served."""

__version__ = "0.1.0"
