"""Asks for torch too early, as a careless node would; the host must notice."""
try:
    import torch  # noqa: F401
except ImportError:
    pass
