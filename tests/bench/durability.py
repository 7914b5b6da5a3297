"""What it costs to lose nothing: readings a second, bytes written and time to be back, with each kind of durability.

Rules this module keeps: all kinds in turn, in one run, at QoS 1 and the broker's default of 20 messages in flight; written is what the
system says the process had written to the disk (`write_bytes` of proc_pid_io(5)), the database's log and its later place both.
"""

import signal
import time

from bench.models import DEVIATION
from bench.publisher import Order
from bench.rig import DEVICES, Figure, Plan, Rig, order

MODES = ("memory", "periodic", "full")
_PILOT, _RATE = 2000, 60_000.0

RATIO = f"readings/s, durability full / memory, {DEVIATION}"
_RATES = {mode: f"agent readings/s, durability {mode}, {DEVIATION}" for mode in MODES}
_WRITTEN = {mode: f"agent bytes written, durability {mode}" for mode in MODES}
BACK = "agent from kill -9 under load to scoring again"

FIGURES = (
    Figure(RATIO, "ratio", 0.5, "higher"),
    *(Figure(name, "readings/s", None, "higher") for name in _RATES.values()),
    *(Figure(name, "bytes/reading") for name in _WRITTEN.values()),
    Figure(BACK, "s"),
)


def measure(rig: Rig, plan: Plan) -> None:
    """Each kind in turn, in rounds; then one that is killed."""
    for _ in range(plan.runs):
        rates = {}
        for mode in MODES:
            rig.step(f"durability {mode}")
            messages = round(_RATE * plan.seconds / 2)
            with rig.agent((DEVIATION,), durability=mode, flush_every="1s") as agent:
                agent.wait_until_subscribed()
                readings = order(DEVIATION, devices=DEVICES, rate=_RATE)
                rig.flood(agent, readings._replace(messages=_PILOT))
                before = agent.written_bytes()
                flood = rig.flood(agent, readings._replace(messages=messages))
                written = agent.written_bytes() - before
                rig.account(f"durability {mode}", _PILOT + messages, agent.finish())
            rates[mode] = flood.rate
            rig.samples[_RATES[mode]].append(flood.rate)
            rig.samples[_WRITTEN[mode]].append(written / messages)
        rig.samples[RATIO].append(rates["full"] / rates["memory"])
    rig.step("kill -9 under load")
    for _ in range(plan.runs):
        _be_back(rig, order(DEVIATION, devices=DEVICES, rate=10_000.0, messages=20_000))


def _be_back(rig: Rig, readings: Order) -> None:
    with rig.agent((DEVIATION,)) as agent:
        agent.wait_until_subscribed()
        rig.publisher.publish(readings)
        assert agent.child
        agent.child.send_signal(signal.SIGKILL)
        agent.child.wait()
    began = time.monotonic()
    with rig.agent((DEVIATION,), keep=True) as agent:
        agent.wait_until_subscribed()
        rig.samples[BACK].append(time.monotonic() - began)
        agent.terminate()
