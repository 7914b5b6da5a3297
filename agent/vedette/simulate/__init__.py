"""Simulated devices with injectable faults, for demos, tests and first recipes.

Rules this package keeps: it runs on a gateway's packages (numpy, msgspec, paho-mqtt); a seed gives the same
readings on any CPU; nothing in the agent imports it. It stands where the devices stand, so it may know the
truth (`fault`) that the agent has to find out.
"""
