"""What a reading costs beside a bare subscriber, both driven at one rate; memory; start.

Rules this module keeps: a pair is measured in turn (A B A B …), in one run.
"""

import time

from bench.models import DEVIATION, FOREST, LSTM
from bench.rig import DEVICES, Cost, Figure, Plan, Rig, order, topic
from bench.subjects import QOS, BareSubscriber

BOTH_QOS: tuple[QOS, ...] = (0, 1)
MODELS = (LSTM, FOREST, DEVIATION)
TIME_LIMIT_S = 190.0
"""Not begun after it: another round."""


def _ratio(model: str, qos: int) -> str:
    return f"agent/bare-subscriber cpu, {model}, qos{qos}"


def _agent_cpu(model: str, qos: int) -> str:
    return f"agent cpu, {model}, qos{qos}"


def _bare_cpu(qos: int) -> str:
    return f"bare-subscriber cpu, qos{qos}"


MEMORY_LSTM, MEMORY_BOTH = f"agent rss, {LSTM}, LiteRT only, {DEVICES} devices", f"agent rss, both runtimes, {DEVICES} devices"
START_LSTM, START_BOTH = f"agent start to subscribed, {LSTM}", "agent start to subscribed, both runtimes"

FIGURES = (
    *(Figure(_ratio(model, 0), "ratio", 1.0) for model in (LSTM, FOREST)),
    *(Figure(_ratio(model, 1), "ratio", 1.2) for model in (LSTM, FOREST)),
    Figure(MEMORY_LSTM, "MB", 60.0),
    Figure(MEMORY_BOTH, "MB", 95.0),
    Figure(START_LSTM, "s", 0.6),
    Figure(START_BOTH, "s", 0.6),
    *(Figure(_ratio(DEVIATION, qos), "ratio") for qos in BOTH_QOS),
    *(Figure(_agent_cpu(model, qos), "us/reading") for model in MODELS for qos in BOTH_QOS),
    *(Figure(_bare_cpu(qos), "us/message") for qos in BOTH_QOS),
)


def measure(rig: Rig, plan: Plan) -> None:
    """As many rounds as planned, or as there is time for."""
    began, longest_s = time.monotonic(), 0.0
    for _ in range(plan.runs):
        round_began = time.monotonic()
        if round_began - began + longest_s > TIME_LIMIT_S:
            break
        for qos in BOTH_QOS:
            _measure_pairs(rig, plan, qos)
        _measure_both_runtimes(rig, plan._replace(seconds=min(1.0, plan.seconds)))
        longest_s = max(longest_s, time.monotonic() - round_began)


def find_rate(rig: Rig, plan: Plan) -> float:
    """The highest of some rates, the plan's first, that agent, broker and publisher sustain together: the common rate of all that
    follows. The heaviest combination decides.
    """
    for part in (1.0, 0.75, 0.5, 0.35, 0.25, 0.1):
        rate = plan.rate * part
        rig.step(f"can this machine do {rate:.0f} messages/s?")
        cost, _ = _measure_agent(rig, plan._replace(rate=rate), 1, (LSTM,))
        if cost.behind_s < 0.1 * plan.seconds:
            return rate
    return rate


def _measure_pairs(rig: Rig, plan: Plan, qos: QOS) -> None:
    """The bare subscriber, then the agent with each model, at the same rate."""
    rig.step(f"bare subscriber, qos{qos}")
    bare = _measure_bare(rig, plan, qos)
    for model in MODELS:
        rig.step(f"agent, {model}, qos{qos}")
        cost, start_s = _measure_agent(rig, plan, qos, (model,))
        rig.samples[_agent_cpu(model, qos)].append(cost.cpu_us)
        rig.samples[_ratio(model, qos)].append(cost.cpu_us / bare.cpu_us)
        if model == LSTM:
            rig.samples[MEMORY_LSTM].append(cost.resident_bytes / 1e6)
            rig.samples[START_LSTM].append(start_s)


def _measure_both_runtimes(rig: Rig, plan: Plan) -> None:
    """Two streams, one for each runtime."""
    rig.step("agent, both runtimes")
    cost, start_s = _measure_agent(rig, plan, 1, (LSTM, DEVIATION))
    rig.samples[MEMORY_BOTH].append(cost.resident_bytes / 1e6)
    rig.samples[START_BOTH].append(start_s)


def _measure_bare(rig: Rig, plan: Plan, qos: QOS) -> Cost:
    with BareSubscriber(rig.python, rig.folder, rig.broker.port, topic(LSTM).replace("{device}", "+"), qos) as subject:
        subject.wait_until_subscribed()
        cost = rig.load(subject, plan, order(LSTM, qos=qos))
        rig.account("bare subscriber", plan.warm_up + plan.messages, subject.finish())
    rig.samples[_bare_cpu(qos)].append(cost.cpu_us)
    return cost


def _measure_agent(rig: Rig, plan: Plan, qos: QOS, models: tuple[str, ...]) -> tuple[Cost, float]:
    """The agent with a stream for each model, and how many seconds it took to start."""
    with rig.agent(models, qos) as subject:
        start_s = subject.wait_until_subscribed()
        cost = rig.load(subject, plan, order(*models, qos=qos))
        rig.account(f"agent, {' and '.join(models)}, qos{qos}", plan.warm_up + plan.messages, subject.finish())
    return cost, start_s
