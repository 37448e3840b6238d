"""Drop-ins for users of pytorch-grad-cam and captum: one import replaced, the rest of their code stays. Neither is needed."""

from . import captum, grad_cam

__all__ = ["captum", "grad_cam"]
