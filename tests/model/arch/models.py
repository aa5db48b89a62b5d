"""The tiny models of make.py: configurations as published checkpoints write them.

Small enough for a file of a few KB, large enough that every kind of layer, every window
pattern and every optional bias occurs. `scales` are first-match overrides (pattern, (scale,
offset)) of the weights; `rename` leads from names as saved to names as published; `wrapper` is the
configuration that the model is the text part of; `fused` is the number of experts where they
are published as one tensor; `inputs_first` names matrices that are stored [inputs, outputs]."""

from models_dense import DENSE
from models_moe import MOE
from models_recurrent import RECURRENT
from models_wrapped import WRAPPED

MODELS = {**DENSE, **MOE, **RECURRENT, **WRAPPED}
