"""Export, on a workstation: a run in, a bundle out.

Rules this package keeps: a model is converted to built-in operators alone and takes a batch of any size; what leaves
has been scored by the gateway's own runtime and found equal to the original; equal runs give equal bytes.
"""
