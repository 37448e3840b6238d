"""Drop-in replacements for pytorch-grad-cam and captum: change one import. Neither library needs to be installed."""

from . import captum, grad_cam

__all__ = ["captum", "grad_cam"]
