"""Providers with known behaviour and timing, over real HTTP.

`Simulator` runs in an event loop of the caller's, `spawn_simulator` as a process of its own; the words that make up a
model's behaviour are in `behaviour.MENU`.
"""

from llmbench.simulator.behaviour import MENU
from llmbench.simulator.server import Simulator, SimulatorError
from llmbench.simulator.spawn import SpawnedSimulator, spawn_simulator

__all__ = ["MENU", "Simulator", "SimulatorError", "SpawnedSimulator", "spawn_simulator"]
