import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from vedette.topics import AgentTopics, TopicFilter, escape


@pytest.mark.parametrize(
    ("topic", "subscription", "given_topic", "device"),
    [
        ("plant/+/fridge/{device}/t", "plant/+/fridge/+/t", "plant/a/fridge/f-1/t", "f-1"),
        ("zigbee2mqtt/{device:#}", "zigbee2mqtt/#", "zigbee2mqtt/attic/lamp 2", "attic/lamp 2"),
        ("{device}/state", "+/state", "x/state", "x"),
        ("plant/#", "plant/#", "plant/a/b", ""),
        ("plant/#", "plant/#", "plant", ""),
        ("a.b/{device}", "a.b/+", "a.b/c", "c"),
    ],
)
def test_a_filter_subscribes_and_finds_the_device(topic: str, subscription: str, given_topic: str, device: str) -> None:
    topic_filter = TopicFilter(topic)
    assert topic_filter.subscription == subscription
    assert topic_filter.match(given_topic) == device


@pytest.mark.parametrize("other", ["plant/a/fridge/f-1", "plant/a/b/fridge/f-1/t", "plant/a/fridge/f-1/t/x", "plant/a/fridge//t", "a.b"])
def test_other_topics_do_not_match(other: str) -> None:
    assert TopicFilter("plant/+/fridge/{device}/t").match(other) is None


@pytest.mark.parametrize("wrong", ["", "a/#/b", "{device}/{device}", "a+/b", "a/{device}x", "a/{name}", "$SYS/#", "{device:#}/a", "a\0b"])
def test_topics_that_break_the_rules_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 because the several messages are tested with the configuration
        TopicFilter(wrong)


LEVEL = st.sampled_from(["a", "b", "", "x.y", "ä"])


@given(st.lists(LEVEL | st.just("+"), min_size=1, max_size=4), st.booleans(), st.lists(LEVEL, min_size=1, max_size=5))
def test_matching_agrees_with_mqtt(levels: list[str], rest: bool, topic: list[str]) -> None:
    pattern = "/".join([*levels, "#"] if rest else levels)
    if not pattern:
        return
    matched = TopicFilter(pattern).match("/".join(topic)) is not None
    assert matched == topic_matches_sub(pattern, "/".join(topic))


@given(st.text(min_size=1, max_size=30))
def test_an_escaped_name_is_one_level_and_no_folder(name: str) -> None:
    escaped = escape(name)
    assert escaped not in {".", ".."}
    assert all(c.isascii() and (c.isalnum() or c in "._-%") for c in escaped)


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_two_names_never_share_a_topic(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


def test_the_agents_topics_are_those_of_the_design() -> None:
    topics = AgentTopics("vedette", "gw-7")
    assert (topics.status, topics.stats) == ("vedette/gw-7/status", "vedette/gw-7/stats")
    assert topics.alert("fridges", "f/1 ") == "vedette/gw-7/alerts/fridges/f%2F1%20"
    assert topics.alert("fridges", "") == "vedette/gw-7/alerts/fridges"
    assert topics.state("fridges", "..") == "vedette/gw-7/state/fridges/%2E%2E"
