"""Training, on a workstation: history in, a run folder out.

Rules this package keeps: history is decoded, scaled and windowed by `vedette.contract`, the gateway's own code; nothing
is learnt from readings that are held out; equal recipe, history and seed give an equal model; a number that was not
measured is not there.
"""

import os

# Before TensorFlow is imported, wherever that is: it would greet every run with a page about instruction sets. Without oneDNN, which gains
# nothing on models of this size, results also depend less on the processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
