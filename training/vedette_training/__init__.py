"""Training, on a workstation: history in, a run folder out.

Rules this package keeps: history is decoded, scaled and windowed by `vedette.contract`, the gateway's own code; nothing
is learnt from readings that are held out; equal recipe, history and seed give an equal model; a number that was not
measured is not there.
"""
