"""The language of model names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.simulator.behaviour import MENU, WORDS, BadName, Behaviour, Fault, behaviour_of


def _example(form: str) -> str:
    """Return a word of this form."""
    return re.sub(r"[<[].*", "7", form)


@pytest.mark.parametrize(
    ("model", "behaviour"),
    [
        ("sim", Behaviour()),
        ("sim-ttft200-gap20-tok64", Behaviour(ttft_ns=200_000_000, gap_ns=20_000_000, tokens=64)),
        ("sim-tok64-gap2.5", Behaviour(gap_ns=2_500_000, tokens=64)),
        ("o3-sim-reason300-ttft100", Behaviour(reason_ns=300_000_000, ttft_ns=100_000_000)),
        ("sim-429-retry7", Behaviour(status=429, retry_after="7")),
        ("claude-sim-stall10", Behaviour(fault=Fault("stall", 10))),
        ("meta-llama/SIM-Budget", Behaviour(budget=True)),
        ("us.anthropic.sim-empty", Behaviour(fault=Fault("empty"))),
        ("sim-html", Behaviour(fault=Fault("html", 200))),
        ("sim-html404", Behaviour(fault=Fault("html", 404))),
    ],
)
def test_a_name_says_what_the_model_does(model: str, behaviour: Behaviour) -> None:
    """Words in any order behind any prefix set the behaviour; the rest is as by default."""
    assert behaviour_of(model) == behaviour


@pytest.mark.parametrize("model", ["gpt-4o", "", "simulated-7b", "maxim-ttft5", "llama-simple"])
def test_a_name_without_the_word_is_no_simulated_model(model: str) -> None:
    """Only the word ``sim`` itself makes a simulated model."""
    assert behaviour_of(model) is None


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("sim-tftt200", "'tftt200', which is not on the simulator's menu"),
        ("sim-418", "'418', which is not on the simulator's menu"),
        ("sim-tok", "must have the form tok<N>"),
        ("sim-empty3", "must have the form empty"),
        ("sim-tok2.5", "its number can't be used"),
        ("sim-burst0", "must be 1 or more"),
        ("sim-stall3-reset5", "two words for the same thing"),
        ("sim-tok3-tok4", "two words for the same thing"),
        ("sim-stamp-drip", "joins 'stamp' with a word that splits"),
        ("sim-\u0661", "not on the simulator's menu"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused(model: str, reason: str) -> None:
    """A typo never passes for a default."""
    with pytest.raises(BadName, match=re.escape(reason)):
        behaviour_of(model)


@pytest.mark.parametrize("word", WORDS, ids=lambda word: str(word.form))
def test_every_word_of_the_menu_changes_the_behaviour(word: tuple[str, str]) -> None:
    """What the menu lists is understood, with the number that its form asks for."""
    assert behaviour_of(f"sim-{_example(word[0])}") != Behaviour()


def test_the_menu_lists_each_word_once() -> None:
    """The menu is what people are shown: complete, each line with a meaning."""
    forms = [form for form, _meaning in MENU]
    assert len(set(forms)) == len(forms)
    assert all(meaning for _form, meaning in MENU)
    assert {"ttft<ms>", "429", "529", "reset<N>", "html[status]"} <= set(forms)


@given(st.permutations(["ttft70", "gap3.5", "tok9", "burst3", "jitter1", "429", "unicode"]))
def test_the_order_of_words_does_not_matter(words: list[str]) -> None:
    """Any permutation of the same words is the same behaviour."""
    expected = behaviour_of("sim-ttft70-gap3.5-tok9-burst3-jitter1-429-unicode")
    assert behaviour_of("-".join(["sim", *words])) == expected


@given(st.text())
def test_any_text_is_a_behaviour_or_none_or_refused(text: str) -> None:
    """A name from outside never does anything else."""
    for model in (text, f"sim-{text}"):
        try:
            behaviour = behaviour_of(model)
        except BadName:
            continue
        assert behaviour is None or isinstance(behaviour, Behaviour)
