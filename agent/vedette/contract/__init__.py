"""What the gateway and the workstation share: readings, features, windows, scores and bundles.

Rules this package keeps: no network, no clock, no randomness of its own, no model runtime imported; nothing outside
`vedette.contract` is imported. The workstation runs this very code, so training and serving cannot disagree.
"""
